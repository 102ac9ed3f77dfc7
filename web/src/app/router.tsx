/** The console's URLs. Each page is a chunk of its own; the time range stays in the URL from page to page. */
import { QueryCache, QueryClient } from "@tanstack/react-query";
import {
  createRootRouteWithContext,
  createRoute,
  createRouter,
  lazyRouteComponent,
  Outlet,
  redirect,
  retainSearchParams,
} from "@tanstack/react-router";
import { ApiProblem, TOO_SLOW } from "@/api/problem";
import { isTeamRole } from "@/api/roles";
import { sessionQuery } from "@/api/session";
import { requestFilters } from "@/features/access/filters";
import { alertFilters } from "@/features/alerts/filters";
import { auditFilters } from "@/features/audit/filters";
import { discoveryFilters } from "@/features/discoveries/filters";
import { flowSearch } from "@/features/flows/search";
import { playgroundSearch } from "@/features/playground/choice";
import { explainSearch } from "@/features/explain/search";
import { priceSearch } from "@/features/prices/search";
import { ledgerFilters } from "@/features/requests/filters";
import { isRange, type RangeName } from "./range";
import { Shell } from "./Shell";
import { Failed, Lost, Waiting } from "./Lost";

export const queries: QueryClient = new QueryClient({
  defaultOptions: {
    queries: {
      staleTime: 5000,
      retry: (failures, error) => failures < 2 && !(error instanceof ApiProblem && ((error.status >= 400 && error.status < 500) || error.code === TOO_SLOW)),
    },
  },
  queryCache: new QueryCache({
    onError: (error, query) => {
      // A session that has ended: the frame's guard sends to the sign-in page and back.
      if (error instanceof ApiProblem && error.status === 401 && query.queryKey[0] !== "session") {
        queries.removeQueries({ queryKey: ["session"] });
        void router.invalidate();
      }
    },
  }),
});

const root = createRootRouteWithContext<{ queries: QueryClient }>()({
  component: Outlet,
  errorComponent: Failed,
  validateSearch: (search: Record<string, unknown>): { range?: RangeName | undefined; sort?: string | undefined; add?: true | undefined } => ({
    ...(isRange(search["range"]) ? { range: search["range"] } : {}),
    ...(typeof search["sort"] === "string" ? { sort: search["sort"] } : {}),
    ...(search["add"] === true ? { add: true } : {}),
  }),
  search: { middlewares: [retainSearchParams(["range"])] },
});

const login = createRoute({
  getParentRoute: () => root,
  path: "/login",
  validateSearch: (search: Record<string, unknown>): { next?: string | undefined; problem?: string | undefined; provider?: string | undefined } => ({
    ...(typeof search["next"] === "string" && /^\/console(\/|$|\?)/.test(search["next"]) ? { next: search["next"] } : {}),
    ...(typeof search["problem"] === "string" && typeof search["provider"] === "string" ? { problem: search["problem"], provider: search["provider"] } : {}),
  }),
  component: lazyRouteComponent(() => import("@/features/login/LoginPage"), "LoginPage"),
});

const confirmed = createRoute({
  getParentRoute: () => root,
  path: "/confirmed",
  component: lazyRouteComponent(() => import("@/features/login/ConfirmedPage"), "ConfirmedPage"),
});

const frame = createRoute({
  getParentRoute: () => root,
  id: "frame",
  component: Shell,
  pendingComponent: Waiting,
  beforeLoad: async ({ context, location }) => {
    try {
      const session = await context.queries.ensureQueryData(sessionQuery);
      if (session.second_factor_due && location.pathname !== "/account") throw redirect({ to: "/account" });
    } catch (error) {
      if (error instanceof ApiProblem && error.status === 401) {
        throw redirect({ to: "/login", search: location.pathname === "/" ? {} : { next: location.publicHref } });
      }
      throw error;
    }
  },
});

const overview = createRoute({
  getParentRoute: () => frame,
  path: "/",
  // App teams begin where they choose what to call.
  beforeLoad: async ({ context }) => {
    const { role } = await context.queries.ensureQueryData(sessionQuery);
    if (isTeamRole(role)) throw redirect({ to: "/catalogue" });
  },
  component: lazyRouteComponent(() => import("@/features/overview/OverviewPage"), "OverviewPage"),
});

const start = createRoute({
  getParentRoute: () => frame,
  path: "/start",
  component: lazyRouteComponent(() => import("@/features/start/StartPage"), "StartPage"),
});

const flows = createRoute({
  getParentRoute: () => frame,
  path: "/flows",
  validateSearch: flowSearch,
  component: lazyRouteComponent(() => import("@/features/flows/FlowsPage"), "FlowsPage"),
});

const requests = createRoute({
  getParentRoute: () => frame,
  path: "/requests",
  validateSearch: ledgerFilters,
  component: lazyRouteComponent(() => import("@/features/requests/RequestsPage"), "RequestsPage"),
});
const request = createRoute({
  getParentRoute: () => requests,
  path: "$id",
  component: lazyRouteComponent(() => import("@/features/requests/RequestDrawer"), "RequestDrawer"),
});

const discoveries = createRoute({
  getParentRoute: () => frame,
  path: "/discoveries",
  validateSearch: discoveryFilters,
  component: lazyRouteComponent(() => import("@/features/discoveries/DiscoveriesPage"), "DiscoveriesPage"),
});
const discovery = createRoute({
  getParentRoute: () => discoveries,
  path: "$id",
  component: lazyRouteComponent(() => import("@/features/discoveries/DiscoveryDrawer"), "DiscoveryDrawer"),
});

const denials = createRoute({
  getParentRoute: () => frame,
  path: "/discoveries/denials",
  component: lazyRouteComponent(() => import("@/features/denials/DenialsPage"), "DenialsPage"),
});
const denial = createRoute({
  getParentRoute: () => denials,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/denials/DenialDrawer"), "DenialDrawer"),
});

const alerts = createRoute({
  getParentRoute: () => frame,
  path: "/discoveries/alerts",
  validateSearch: alertFilters,
  component: lazyRouteComponent(() => import("@/features/alerts/AlertsPage"), "AlertsPage"),
});
const alert = createRoute({
  getParentRoute: () => alerts,
  path: "$id",
  component: lazyRouteComponent(() => import("@/features/alerts/AlertDrawer"), "AlertDrawer"),
});

const coverage = createRoute({
  getParentRoute: () => frame,
  path: "/discoveries/tls",
  component: lazyRouteComponent(() => import("@/features/discoveries/CoveragePage"), "CoveragePage"),
});

const kernel = createRoute({
  getParentRoute: () => frame,
  path: "/kernel",
  component: lazyRouteComponent(() => import("@/features/kernel/KernelPage"), "KernelPage"),
});
const measured = createRoute({
  getParentRoute: () => kernel,
  path: "$route",
  validateSearch: (search: Record<string, unknown>): { target?: string | undefined } => (typeof search["target"] === "string" ? { target: search["target"] } : {}),
  component: lazyRouteComponent(() => import("@/features/kernel/SeriesDrawer"), "SeriesDrawer"),
});

const limits = createRoute({
  getParentRoute: () => frame,
  path: "/limits",
  component: lazyRouteComponent(() => import("@/features/limits/LimitsPage"), "LimitsPage"),
});
const limit = createRoute({
  getParentRoute: () => limits,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/limits/LimitDrawer"), "LimitDrawer"),
});

const routes = createRoute({
  getParentRoute: () => frame,
  path: "/routes",
  component: lazyRouteComponent(() => import("@/features/routes/RoutesPage"), "RoutesPage"),
});
const route = createRoute({
  getParentRoute: () => routes,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/routes/RouteDrawer"), "RouteDrawer"),
});

const providers = createRoute({
  getParentRoute: () => frame,
  path: "/providers",
  component: lazyRouteComponent(() => import("@/features/providers/ProvidersPage"), "ProvidersPage"),
});
const provider = createRoute({
  getParentRoute: () => providers,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/providers/ProviderDrawer"), "ProviderDrawer"),
});

const apps = createRoute({
  getParentRoute: () => frame,
  path: "/apps",
  component: lazyRouteComponent(() => import("@/features/apps/AppsPage"), "AppsPage"),
});
const app = createRoute({
  getParentRoute: () => apps,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/apps/AppDrawer"), "AppDrawer"),
});

const teams = createRoute({
  getParentRoute: () => frame,
  path: "/teams",
  component: lazyRouteComponent(() => import("@/features/teams/TeamsPage"), "TeamsPage"),
});
const team = createRoute({
  getParentRoute: () => teams,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/teams/TeamDrawer"), "TeamDrawer"),
});

const interception = createRoute({
  getParentRoute: () => frame,
  path: "/interception",
  component: lazyRouteComponent(() => import("@/features/interception/InterceptionPage"), "InterceptionPage"),
});
const interceptionRule = createRoute({
  getParentRoute: () => interception,
  path: "rules/$name",
  component: lazyRouteComponent(() => import("@/features/interception/RuleDrawer"), "RuleDrawer"),
});
const connections = createRoute({
  getParentRoute: () => frame,
  path: "/interception/connections",
  validateSearch: (search: Record<string, unknown>): { rule?: string | undefined } => (typeof search["rule"] === "string" ? { rule: search["rule"] } : {}),
  component: lazyRouteComponent(() => import("@/features/interception/ConnectionsPage"), "ConnectionsPage"),
});
const authority = createRoute({
  getParentRoute: () => frame,
  path: "/interception/authority",
  component: lazyRouteComponent(() => import("@/features/interception/AuthorityPage"), "AuthorityPage"),
});

const health = createRoute({
  getParentRoute: () => frame,
  path: "/health",
  component: lazyRouteComponent(() => import("@/features/installation/HealthPage"), "HealthPage"),
});
const settings = createRoute({
  getParentRoute: () => frame,
  path: "/settings",
  component: lazyRouteComponent(() => import("@/features/installation/SettingsPage"), "SettingsPage"),
});
const backups = createRoute({
  getParentRoute: () => frame,
  path: "/backups",
  component: lazyRouteComponent(() => import("@/features/installation/BackupsPage"), "BackupsPage"),
});

const playground = createRoute({
  getParentRoute: () => frame,
  path: "/playground",
  validateSearch: playgroundSearch,
  component: lazyRouteComponent(() => import("@/features/playground/PlaygroundPage"), "PlaygroundPage"),
});

const catalogue = createRoute({
  getParentRoute: () => frame,
  path: "/catalogue",
  validateSearch: (search: Record<string, unknown>): { q?: string | undefined } => (typeof search["q"] === "string" && search["q"] !== "" ? { q: search["q"] } : {}),
  component: lazyRouteComponent(() => import("@/features/catalogue/CataloguePage"), "CataloguePage"),
});
const service = createRoute({
  getParentRoute: () => catalogue,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/catalogue/ServiceDrawer"), "ServiceDrawer"),
});

const usage = createRoute({
  getParentRoute: () => frame,
  path: "/usage",
  component: lazyRouteComponent(() => import("@/features/usage/UsagePage"), "UsagePage"),
});

const accessRequests = createRoute({
  getParentRoute: () => frame,
  path: "/access-requests",
  validateSearch: requestFilters,
  component: lazyRouteComponent(() => import("@/features/access/AccessRequestsPage"), "AccessRequestsPage"),
});
const accessRequest = createRoute({
  getParentRoute: () => accessRequests,
  path: "$id",
  component: lazyRouteComponent(() => import("@/features/access/AccessRequestDrawer"), "AccessRequestDrawer"),
});
const notices = createRoute({
  getParentRoute: () => frame,
  path: "/access-requests/notices",
  component: lazyRouteComponent(() => import("@/features/access/NoticesPage"), "NoticesPage"),
});

const prices = createRoute({
  getParentRoute: () => frame,
  path: "/prices",
  validateSearch: priceSearch,
  component: lazyRouteComponent(() => import("@/features/prices/PricesPage"), "PricesPage"),
});

const explain = createRoute({
  getParentRoute: () => frame,
  path: "/explain",
  validateSearch: explainSearch,
  component: lazyRouteComponent(() => import("@/features/explain/ExplainPage"), "ExplainPage"),
});

const publish = createRoute({
  getParentRoute: () => frame,
  path: "/publish",
  component: lazyRouteComponent(() => import("@/features/publish/PublishPage"), "PublishPage"),
});
const publishYaml = createRoute({
  getParentRoute: () => frame,
  path: "/publish/yaml",
  validateSearch: (search: Record<string, unknown>): { line?: number | undefined } => (typeof search["line"] === "number" ? { line: search["line"] } : {}),
  component: lazyRouteComponent(() => import("@/features/publish/YamlPage"), "YamlPage"),
});
const versions = createRoute({
  getParentRoute: () => frame,
  path: "/publish/versions",
  component: lazyRouteComponent(() => import("@/features/publish/VersionsPage"), "VersionsPage"),
});
const version = createRoute({
  getParentRoute: () => frame,
  path: "/publish/versions/$number",
  component: lazyRouteComponent(() => import("@/features/publish/VersionPage"), "VersionPage"),
});

const account = createRoute({
  getParentRoute: () => frame,
  path: "/account",
  component: lazyRouteComponent(() => import("@/features/account/AccountPage"), "AccountPage"),
});

const users = createRoute({
  getParentRoute: () => frame,
  path: "/users",
  component: lazyRouteComponent(() => import("@/features/users/UsersPage"), "UsersPage"),
});

const tokens = createRoute({
  getParentRoute: () => frame,
  path: "/tokens",
  component: lazyRouteComponent(() => import("@/features/tokens/TokensPage"), "TokensPage"),
});

const signOn = createRoute({
  getParentRoute: () => frame,
  path: "/sign-on",
  component: lazyRouteComponent(() => import("@/features/sign-on/SignOnPage"), "SignOnPage"),
});
const signOnProvider = createRoute({
  getParentRoute: () => signOn,
  path: "$name",
  component: lazyRouteComponent(() => import("@/features/sign-on/ProviderDrawer"), "ProviderDrawer"),
});

const audit = createRoute({
  getParentRoute: () => frame,
  path: "/audit",
  validateSearch: auditFilters,
  component: lazyRouteComponent(() => import("@/features/audit/AuditPage"), "AuditPage"),
});
const auditEntry = createRoute({
  getParentRoute: () => audit,
  path: "$seq",
  component: lazyRouteComponent(() => import("@/features/audit/AuditDrawer"), "AuditDrawer"),
});

const lost = createRoute({ getParentRoute: () => frame, path: "$", component: Lost });

export const router = createRouter({
  routeTree: root.addChildren([
    login,
    confirmed,
    frame.addChildren([
      overview,
      start,
      flows,
      requests.addChildren([request]),
      discoveries.addChildren([discovery]),
      denials.addChildren([denial]),
      alerts.addChildren([alert]),
      coverage,
      kernel.addChildren([measured]),
      limits.addChildren([limit]),
      routes.addChildren([route]),
      providers.addChildren([provider]),
      apps.addChildren([app]),
      teams.addChildren([team]),
      interception.addChildren([interceptionRule]),
      connections,
      authority,
      playground,
      health,
      settings,
      backups,
      prices,
      explain,
      publish,
      publishYaml,
      versions,
      version,
      account,
      catalogue.addChildren([service]),
      usage,
      accessRequests.addChildren([accessRequest]),
      notices,
      users,
      tokens,
      signOn.addChildren([signOnProvider]),
      audit.addChildren([auditEntry]),
      lost,
    ]),
  ]),
  basepath: "/console",
  context: { queries },
  defaultPreload: "intent",
  defaultPreloadStaleTime: 0,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

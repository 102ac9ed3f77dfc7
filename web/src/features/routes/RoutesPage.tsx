/** What callers ask for, and which targets stand behind it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconHelpHexagon, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { useAdding } from "@/app/adding";
import { useRange } from "@/app/range";
import type { Route, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { whyNone } from "@/features/overview/words";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { routesQuery } from "./queries";
import { RouteForm } from "./RouteForm";
import { targetNames } from "./target";

export function RoutesPage() {
  const routes = useQuery(routesQuery);
  const usage = useQuery(usageQuery("route", useRange()));
  const [making, setMaking] = useAdding();
  const may = useMay();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((route: Route) => void navigate({ to: "/routes/$name", params: { name: route.name } }), [navigate]);
  const quiet = whyNone(usage);
  const columns = useMemo(() => columnsWith(usage.data, quiet), [usage.data, quiet]);
  const make = may("configuration:write") ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      <Trans>Add a route</Trans>
    </Button>
  ) : null;
  const explain = (
    <Button variant="default" leftSection={<IconHelpHexagon size={16} />} onClick={() => void navigate({ to: "/explain" })}>
      <Trans>What would happen to a request?</Trans>
    </Button>
  );
  return (
    <Page title={t`Routes`} line={t`What callers ask for as “model” or by host and path, and the targets that answer.`} action={routes.data?.length === 0 ? make : <>{explain}{make}</>}>
      <DataTable
        label={t`Routes`}
        columns={columns}
        rows={routes.data}
        rowId={(route) => route.name}
        error={routes.error}
        again={() => void routes.refetch()}
        open={open}
        openId={openId}
        empty={<Empty title={t`No routes`} why={t`A route is the name that callers use. Behind it stand one or more targets: a provider and a model each.`} action={make} snippet={example} />}
      />
      {making && make ? <RouteForm close={() => setMaking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

function columnsWith(usage: readonly UsageItem[] | undefined, quiet: string): readonly Column<Route>[] {
  const of = (route: Route) => usage?.find((item) => item.route === route.name);
  return [
    {
      id: "name",
      header: t`Route`,
      sortBy: (route) => route.name,
      cell: (route) => (
        <Link to="/routes/$name" params={{ name: route.name }}>
          {route.name}
        </Link>
      ),
    },
    { id: "kind", header: t`Serves`, hide: "phone", cell: (route) => (route.match ? <code>{(route.match.host ?? "") + (route.match.path ?? "")}</code> : t`model name`) },
    { id: "strategy", header: t`Strategy`, hide: "tablet", sortBy: (route) => route.strategy, cell: (route) => route.strategy },
    { id: "targets", header: t`Targets`, cell: (route) => <code>{targetNames(route)}</code> },
    { id: "requests", header: t`Requests`, number: true, sortBy: (route) => of(route)?.requests ?? 0, cell: (route) => <Count n={of(route)?.requests} unit={t`requests`} why={quiet} /> },
    {
      id: "spend",
      header: t`Spend`,
      number: true,
      hide: "phone",
      sortBy: (route) => of(route)?.cost_usd_micros ?? 0,
      cell: (route) => <Spend of={of(route)} why={quiet} />,
    },
  ];
}

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
providers:
  - {name: openai, dialect: openai, base_url: https://api.openai.com/v1,
     credentials: [{name: main, value: "\${OPENAI_API_KEY}"}]}
routes:
  - {name: chat, targets: [{provider: openai, model: gpt-5-mini}]}`;

/** From nothing to a governed first call in three steps. Where one stands is told by what exists: it can be left and gone on with. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import type { App, LedgerRow, Provider, ProviderTested, Route, Team } from "@/api/model";
import { useMay } from "@/api/session";
import { appsQuery, teamsQuery } from "@/features/apps/queries";
import { providersQuery } from "@/features/providers/queries";
import { routesQuery } from "@/features/routes/queries";
import { Empty, Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import { CallStep } from "./CallStep";
import { ProviderStep, providerOutcome } from "./ProviderStep";
import { newestCall, takes, triedQuery } from "./queries";
import { RouteStep, type Made } from "./RouteStep";
import { resume, skip } from "./skipped";
import { Step } from "./Step";
import styles from "./start.module.css";

export function StartPage() {
  const allowed = useMay()("configuration:write");
  const navigate = useNavigate();
  const asked = [useQuery({ ...providersQuery, enabled: allowed }), useQuery(routesQuery), useQuery(teamsQuery), useQuery(appsQuery)] as const;
  const [providers, routes, teams, apps] = [asked[0].data, asked[1].data, asked[2].data, asked[3].data];
  const error = asked.find((each) => each.error)?.error;
  const [answered, setAnswered] = useState(false);
  useEffect(resume, []);
  return (
    <Page
      title={t`First run`}
      line={t`From nothing to a governed first call: a provider, a route and an app, a call.`}
      action={
        <Button
          variant="default"
          onClick={() => {
            skip();
            void navigate({ to: "/" });
          }}
        >
          {answered ? <Trans>To the overview</Trans> : <Trans>Skip, I know the way</Trans>}
        </Button>
      }
    >
      {!allowed ? (
        <Empty title={t`Somebody else sets this gateway up`} why={t`Providers, routes and apps are made by operators, admins and the owner. Your role sees what they made.`} action={<Link to="/"><Trans>To the overview</Trans></Link>} />
      ) : providers && routes && teams && apps ? (
        <Steps providers={providers} routes={routes} teams={teams} apps={apps} answered={() => setAnswered(true)} />
      ) : error ? (
        <Problem error={error} again={() => void Promise.all(asked.map((each) => each.refetch()))} />
      ) : (
        <Skeleton height={360} radius={8} />
      )}
    </Page>
  );
}

interface StepsProps {
  providers: readonly Provider[];
  routes: readonly Route[];
  teams: readonly Team[];
  apps: readonly App[];
  /** The first call has come, and went well. */
  answered: () => void;
}

function Steps({ providers, routes, teams, apps, answered }: StepsProps) {
  const [made, setMade] = useState<Made>();
  const there = made ?? standing(routes, apps);
  const { provider, tested, ...first } = useProviderStep(providers, there !== undefined);
  const newest = useQuery({ ...newestCall(there?.app ?? ""), enabled: there !== undefined });
  const arrived = newest.data ?? undefined;
  const well = arrived !== undefined && wentWell(arrived);
  useEffect(() => {
    if (well) answered();
  }, [well, answered]);
  return (
    <ol className={styles.steps}>
      <Step number={1} title={t`A provider`} done={first.done} note={first.note} open={first.open}>
        <p className={styles.about}>
          <Trans>The account at a vendor that requests are sent to. Its key is tried on the vendor's list of models: that costs nothing.</Trans>
        </p>
        {first.form}
      </Step>
      <Step number={2} title={t`A route and an app`} done={there ? t`Route ${there.route}, app ${there.app}` : undefined} open={provider !== undefined && there === undefined}>
        <p className={styles.about}>
          <Trans>Callers ask for a route, never for a vendor: you can move it later without their noticing. An app calls with a key of its own, within its budget.</Trans>
        </p>
        {provider !== undefined ? <RouteStep provider={provider} models={tested?.models ?? undefined} teams={teams.map((each) => each.name)} routes={routes} apps={apps.map((each) => each.name)} done={setMade} /> : null}
      </Step>
      <Step number={3} title={t`The first call`} done={well ? t`It has arrived` : undefined} open={there !== undefined}>
        {well ? null : (
          <p className={styles.about}>
            <Trans>From a terminal on this machine, or from where the app runs. It shows here within two seconds.</Trans>
          </p>
        )}
        {newest.error && !arrived ? <Problem error={newest.error} again={() => void newest.refetch()} /> : null}
        {there !== undefined ? <CallStep made={there} arrived={arrived} well={well} keyMade={(key) => setMade({ ...there, key })} /> : null}
      </Step>
    </ol>
  );
}

/** How the first step stands: what was checked in this visit, or what an earlier one has left, which is checked anew. */
function useProviderStep(providers: readonly Provider[], laterDone: boolean) {
  const [earlier] = useState(() => newestOf(providers));
  const name = earlier?.name ?? "";
  const [checked, setChecked] = useState<ProviderTested>();
  /** One is being tried: that it is stored says nothing yet. */
  const [trying, setTrying] = useState(false);
  const look = earlier !== undefined && !laterDone && !trying && checked === undefined;
  const asked = useQuery({ ...triedQuery(name), enabled: look });
  const refused = asked.data && !takes(asked.data) ? asked.data : undefined;
  const looking = look && asked.isPending;
  const tested = checked ?? (trying || refused ? undefined : asked.data);
  // Where it could not be asked, what is stored counts; that it could not is said above the page.
  const provider = tested?.provider ?? (trying || refused || looking ? undefined : earlier?.name);
  return {
    provider,
    tested,
    open: provider === undefined && !looking,
    note: looking ? t`Checking ${name}…` : undefined,
    done: looking || provider === undefined ? undefined : tested ? providerOutcome(tested) : <Stored provider={provider} again={() => setTrying(true)} />,
    form: <ProviderStep existing={providers} left={earlier && { provider: earlier, refused }} begun={() => setTrying(true)} done={setChecked} />,
  };
}

const newestOf = (providers: readonly Provider[]): Provider | undefined =>
  providers.reduce<Provider | undefined>((newest, each) => (newest && newest.created_at > each.created_at ? newest : each), undefined);

function Stored({ provider, again }: { provider: string; again: () => void }) {
  return (
    <>
      {t`${provider} is there`}{" "}
      <Button size="compact-xs" variant="subtle" onClick={again}>
        <Trans>Check it, or add another</Trans>
      </Button>
    </>
  );
}

/** What an earlier visit made: a route, and an app that may call it. */
function standing(routes: readonly Route[], apps: readonly App[]): Made | undefined {
  for (const { name: route } of routes.filter((each) => each.match === null)) {
    const app = apps.find((each) => each.routes === "*" || each.routes.includes(route));
    if (app) return { route, app: app.name, key: undefined };
  }
  return undefined;
}

const wentWell = (row: LedgerRow): boolean => row.outcome === "completed" && row.status < 400;

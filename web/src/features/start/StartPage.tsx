/** From nothing to a governed first call in three steps. Where one stands is told by what exists: it can be left and gone on with. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import type { App, ProviderTested } from "@/api/model";
import { useMay } from "@/api/session";
import { appsQuery, teamsQuery } from "@/features/apps/queries";
import { providersQuery } from "@/features/providers/queries";
import { routesQuery } from "@/features/routes/queries";
import { Empty } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import { CallStep } from "./CallStep";
import { ProviderStep, providerOutcome } from "./ProviderStep";
import { newestOf } from "./queries";
import { RouteStep, type Made } from "./RouteStep";
import { resume, skip } from "./skipped";
import { Step } from "./Step";
import styles from "./start.module.css";

export function StartPage() {
  const may = useMay();
  const allowed = may("configuration:write");
  const navigate = useNavigate();
  const providers = useQuery({ ...providersQuery, enabled: allowed });
  const routes = useQuery(routesQuery);
  const teams = useQuery(teamsQuery);
  const apps = useQuery(appsQuery);
  const [tested, setTested] = useState<ProviderTested>();
  /** One is being tried: that it is stored says nothing yet. */
  const [trying, setTrying] = useState(false);
  const [made, setMade] = useState<Made>();
  useEffect(resume, []);

  const names = (items: readonly { name: string }[] | undefined): string[] => items?.map((each) => each.name) ?? [];
  const provider = tested?.provider ?? (trying ? undefined : providers.data?.at(-1)?.name);
  const there = made ?? standing(names(routes.data?.filter((each) => each.match === null)), apps.data);
  const arrived = useQuery({ ...newestOf(there?.app ?? ""), enabled: there !== undefined }).data ?? undefined;
  const loading = (allowed && providers.isPending) || routes.isPending || apps.isPending || teams.isPending;

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
          {arrived ? <Trans>To the overview</Trans> : <Trans>Skip, I know the way</Trans>}
        </Button>
      }
    >
      {!allowed ? (
        <Empty title={t`Somebody else sets this gateway up`} why={t`Providers, routes and apps are made by operators, admins and the owner. Your role sees what they made.`} action={<Link to="/"><Trans>To the overview</Trans></Link>} />
      ) : loading ? (
        <Skeleton height={360} radius={8} />
      ) : (
        <ol className={styles.steps}>
          <Step number={1} title={t`A provider`} done={provider === undefined ? undefined : tested ? providerOutcome(tested) : <Stored provider={provider} again={() => setTrying(true)} />} open={provider === undefined}>
            <p className={styles.about}>
              <Trans>The account at a vendor that requests are sent to. Its key is tried on the vendor's list of models: that costs nothing.</Trans>
            </p>
            <ProviderStep there={names(providers.data)} begun={() => setTrying(true)} done={setTested} />
          </Step>
          <Step number={2} title={t`A route and an app`} done={there ? t`Route ${there.route}, app ${there.app}` : undefined} open={provider !== undefined && there === undefined}>
            <p className={styles.about}>
              <Trans>Callers ask for a route, never for a vendor: you can move it later without their noticing. An app calls with a key of its own, within its budget.</Trans>
            </p>
            {provider !== undefined ? (
              <RouteStep provider={provider} models={tested?.models ?? undefined} teams={names(teams.data)} routes={names(routes.data)} apps={names(apps.data)} done={setMade} />
            ) : null}
          </Step>
          <Step number={3} title={t`The first call`} done={arrived ? t`It has arrived` : undefined} open={there !== undefined}>
            <p className={styles.about}>
              <Trans>From a terminal on this machine, or from where the app runs. It shows here within two seconds.</Trans>
            </p>
            {there !== undefined ? <CallStep made={there} arrived={arrived} keyMade={(key) => setMade({ ...there, key })} /> : null}
          </Step>
        </ol>
      )}
    </Page>
  );
}

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
function standing(routes: readonly string[], apps: readonly App[] | undefined): Made | undefined {
  for (const route of routes) {
    const app = apps?.find((each) => each.routes === "*" || each.routes.includes(route));
    if (app) return { route, app: app.name, key: undefined };
  }
  return undefined;
}

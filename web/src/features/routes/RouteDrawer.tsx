/** One route: its targets and which is taken, how it retries and waits, what it does to headers, and how to call it. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import type { HeaderRules, Route } from "@/api/model";
import { ServicePart } from "@/features/catalogue/ServicePart";
import { healthQuery } from "@/features/providers/queries";
import { Problem } from "@/ui/Answer";
import { Snippet } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Mark } from "@/ui/Mark";
import { exact, share } from "@/units/count";
import { span } from "@/units/time";
import { CapturePart } from "./Capture";
import { routeQuery } from "./queries";
import styles from "./routes.module.css";
import { RouteDeeds } from "./RouteDeeds";
import { RouteLimits } from "./RouteLimits";
import { CALLS, callOf, type Call } from "./snippets";
import { STRATEGIES, targetName } from "./target";

export function RouteDrawer() {
  const { name } = useParams({ from: "/frame/routes/$name" });
  const navigate = useNavigate();
  const route = useQuery(routeQuery(name));
  const close = useCallback(() => void navigate({ to: "/routes" }), [navigate]);
  return (
    <Drawer title={name} label={t`Route ${name}`} close={close}>
      {route.error ? <Problem error={route.error} again={() => void route.refetch()} /> : null}
      {route.data ? <Details route={route.data} /> : route.error ? null : <Skeleton height={320} />}
    </Drawer>
  );
}

function Details({ route }: { route: Route }) {
  const [call, setCall] = useState<Call>("curl");
  const weights = route.targets.reduce((sum, target) => sum + target.weight, 0);
  return (
    <>
      <RouteDeeds route={route} />
      <Part title={t`Targets`}>
        <p className={styles.how}>
          <code>{route.strategy}</code>: {STRATEGIES[route.strategy]}
          {route.prefer.length > 0 ? t`; before all others, providers with the tag ${inTurn(route.prefer)}` : ""}
        </p>
        <ol className={styles.targets}>
          {route.targets.map((target) => (
            <li key={targetName(target)}>
              <Link to="/requests" search={{ target: targetName(target) }} title={t`Requests that this target served`}>
                <code>{targetName(target)}</code>
              </Link>
              <Cooling target={targetName(target)} />
              {route.strategy === "weighted" ? <span>{target.weight === 0 ? t`only when no other is ready` : share(target.weight / weights)}</span> : null}
            </li>
          ))}
        </ol>
      </Part>
      <Part title={t`How it behaves`}>
        <Facts
          facts={[
            [t`Claims`, route.match ? <code key="m">{(route.match.host ?? t`any host`) + (route.match.path ?? "")}</code> : t`requests whose model is “${route.name}”`],
            ...(route.match ? ([[t`Callers show`, CALLERS[route.auth]]] as const) : []),
            ...(route.match?.path ? ([[t`Path sent upstream`, route.strip_prefix ? t`without ${route.match.path}` : t`as it came`]] as const) : []),
            ...(route.match ? ([[t`Host sent upstream`, route.preserve_host ? t`the caller's` : t`the provider's`]] as const) : []),
            [t`Retries`, route.retries === 0 ? t`none` : t`${plural(route.retries, { one: "# attempt", other: "# attempts" })} after the first`],
            [t`Waits to connect`, span(route.timeout.connect)],
            [t`Waits for the first byte`, span(route.timeout.first_byte)],
            [t`Waits between bytes`, span(route.timeout.idle)],
            [t`Waits in all`, span(route.timeout.total)],
            ...(route.match ? [] : ([[t`Reserves for an answer without a bound`, t`${exact(route.max_output_tokens)} tokens`]] as const)),
            [t`When the client leaves`, route.read_to_end ? t`reads the answer to its end` : t`cancels upstream at once`],
          ]}
        />
      </Part>
      <RouteLimits route={route} />
      <Rules title={t`Request headers, before they go upstream`} rules={route.request_headers} />
      <Rules title={t`Answer headers, before they go to the caller`} rules={route.response_headers} />
      <CapturePart route={route} />
      {route.match ? null : (
        <Part title={t`Call it with curl, or the SDK of`}>
          <SegmentedControl data={[...CALLS]} value={call} onChange={(chosen) => setCall(chosen as Call)} size="xs" mb={8} aria-label={t`With curl, or whose SDK`} />
          <Snippet text={callOf(call, route.name)} what={call === "curl" ? t`curl example` : t`example with the SDK of ${call}`} />
        </Part>
      )}
      <ServicePart route={route} />
      <Link to="/requests" search={{ route: route.name }}>
        <Trans>Requests through this route</Trans>
      </Link>
    </>
  );
}

/** "eu, then us" */
const inTurn = ([first = "", ...others]: readonly string[]): string => others.reduce((before, next) => t`${before}, then ${next}`, first);

const CALLERS: Readonly<Record<Route["auth"], string>> = {
  key: t`an app's key`,
  source: t`nothing: their network says whose they are`,
  none: t`nothing: anybody may call`,
};

/** Header rules in the order in which they are applied. */
function Rules({ title, rules }: { title: string; rules: HeaderRules }) {
  const steps = [
    ...rules.remove.map((name) => [t`remove`, name] as const),
    ...Object.entries(rules.set).map(([name, value]) => [t`set`, `${name}: ${value}`] as const),
    ...Object.entries(rules.add).map(([name, value]) => [t`add`, `${name}: ${value}`] as const),
  ];
  if (steps.length === 0) return null;
  return (
    <Part title={title}>
      <ul className={styles.rules}>
        {steps.map(([deed, header]) => (
          <li key={`${deed} ${header}`}>
            {deed} <code>{header}</code>
          </li>
        ))}
      </ul>
    </Part>
  );
}

/** Says so where workers keep requests away from a target after failures. */
function Cooling({ target }: { target: string }) {
  const workers = useQuery(healthQuery).data?.workers ?? [];
  const avoiding = workers.filter((worker) => worker.cooling.includes(target)).length;
  if (avoiding === 0) return null;
  return (
    <Mark
      tone="warn"
      title={t`After failures in a row, or as it asked: ${avoiding} of ${plural(workers.length, { one: "# worker", other: "# workers" })} send elsewhere while there is another target`}
    >
      <Trans>Cooling</Trans>
    </Mark>
  );
}

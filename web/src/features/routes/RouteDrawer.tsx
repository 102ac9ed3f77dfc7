/** One route: its targets in order, how it retries and waits, and how to call it. */
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import type { Route } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Snippet } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { exact, plural, share } from "@/units/count";
import { span } from "@/units/time";
import { routeQuery } from "./queries";
import styles from "./routes.module.css";
import { CALLS, callOf, type Call } from "./snippets";
import { targetName } from "./target";

export function RouteDrawer() {
  const { name } = useParams({ from: "/frame/routes/$name" });
  const navigate = useNavigate();
  const route = useQuery(routeQuery(name));
  const close = useCallback(() => void navigate({ to: "/routes" }), [navigate]);
  return (
    <Drawer title={name} label={`Route ${name}`} close={close}>
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
      <Part title={`Targets, ${route.strategy}`}>
        <ol className={styles.targets}>
          {route.targets.map((target) => (
            <li key={targetName(target)}>
              <Link to="/requests" search={{ target: targetName(target) }} title="Requests that this target served">
                <code>{targetName(target)}</code>
              </Link>
              {route.strategy === "weighted" ? <span>{share(target.weight / weights)}</span> : null}
            </li>
          ))}
        </ol>
      </Part>
      <Part title="How it behaves">
        <Facts
          facts={[
            ["Claims", route.match ? <code key="m">{(route.match.host ?? "any host") + (route.match.path ?? "")}</code> : `requests whose model is “${route.name}”`],
            ["Retries", route.retries === 0 ? "none" : `${plural(route.retries, "attempt")} after the first`],
            ["Waits to connect", span(route.timeout.connect)],
            ["Waits for the first byte", span(route.timeout.first_byte)],
            ["Waits between bytes", span(route.timeout.idle)],
            ["Waits in all", span(route.timeout.total)],
            ...(route.match ? [] : ([["Reserves for an answer without a bound", `${exact(route.max_output_tokens)} tokens`]] as const)),
            ["When the client leaves", route.read_to_end ? "reads the answer to its end" : "cancels upstream at once"],
          ]}
        />
      </Part>
      {route.match ? null : (
        <Part title="Call it">
          <SegmentedControl data={[...CALLS]} value={call} onChange={(chosen) => setCall(chosen as Call)} size="xs" mb={8} aria-label="Language" />
          <Snippet text={callOf(call, route.name)} what={`${call} example`} />
        </Part>
      )}
      <Link to="/requests" search={{ route: route.name }}>
        Requests through this route
      </Link>
    </>
  );
}

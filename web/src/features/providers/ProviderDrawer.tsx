/** One provider: its address and the way there, its checks, its credentials (never their values), the routes that use it. */
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, type ReactNode } from "react";
import type { Provider } from "@/api/model";
import { routesQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Id } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Unknown, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { plural } from "@/units/count";
import { span } from "@/units/time";
import { healthQuery, providerQuery } from "./queries";

export function ProviderDrawer() {
  const { name } = useParams({ from: "/frame/providers/$name" });
  const navigate = useNavigate();
  const provider = useQuery(providerQuery(name));
  const close = useCallback(() => void navigate({ to: "/providers" }), [navigate]);
  return (
    <Drawer title={name} label={`Provider ${name}`} close={close}>
      {provider.error ? <Problem error={provider.error} again={() => void provider.refetch()} /> : null}
      {provider.data ? <Details provider={provider.data} /> : provider.error ? null : <Skeleton height={240} />}
    </Drawer>
  );
}

function Details({ provider }: { provider: Provider }) {
  const routes = useQuery(routesQuery).data?.filter((route) => route.targets.some((target) => target.provider === provider.name));
  return (
    <>
      <Part title="Account">
        <Facts
          facts={[
            ["Dialect", provider.dialect],
            ["Address", <Id key="base" text={provider.base_url} what="address" />],
            ...(provider.zone ? ([["Zone", provider.zone]] as const) : []),
            ...(provider.tags.length > 0 ? ([["Tags", provider.tags.join(", ")]] as const) : []),
            ["Changed", <When key="changed" at={provider.updated_at} />],
          ]}
        />
      </Part>
      <Part title="How it is reached">
        <Facts
          facts={[
            ["Proxy", proxyOf(provider)],
            ...tlsOf(provider),
            ...(provider.health
              ? ([
                  [
                    "Checked",
                    <span key="check">
                      <code>{provider.health.path}</code> every {span(provider.health.interval)}
                    </span>,
                  ],
                  ["Its last check", <CheckResult key="result" name={provider.name} />],
                  ["Counts as down", `after ${plural(provider.health.unhealthy_after, "bad answer")} in a row; up again after ${plural(provider.health.healthy_after, "good one")}`],
                ] as const)
              : ([["Checked", "no: what requests meet tells its state"]] as const)),
          ]}
        />
      </Part>
      <Part title="Credentials, sealed: their values are never shown again">
        {provider.credentials.length === 0 ? (
          <p>None: requests go to it without a credential of ours.</p>
        ) : (
          <Facts
            facts={provider.credentials.map((credential) => [
              credential.name,
              <Credential key="credential" provider={provider.name} credential={credential} />,
            ])}
          />
        )}
      </Part>
      <Part title="Routes that use it">
        {routes?.length === 0 ? <p>None: nothing reaches this provider.</p> : null}
        {routes?.map((route) => (
          <div key={route.id}>
            <Link to="/routes/$name" params={{ name: route.name }}>
              {route.name}
            </Link>
          </div>
        ))}
      </Part>
    </>
  );
}

/** The way there; the proxy's password is sealed and never shown. */
function proxyOf({ proxy }: Provider): ReactNode {
  if (!proxy) return "as the service's environment says";
  if (proxy.url === "none") return "none, whatever the environment says";
  return (
    <span>
      <code>{proxy.url}</code>
      {proxy.user ? ` as ${proxy.user}` : ""}
    </span>
  );
}

function tlsOf({ tls }: Provider): readonly (readonly [string, ReactNode])[] {
  if (!tls) return [];
  return [
    ["Its certificate", !tls.verify ? <Mark tone="warn">Not verified</Mark> : tls.ca ? "verified against this provider's own authorities" : "verified against the system's authorities"],
    ...(tls.server_name ? ([["Must be made for", <code key="name">{tls.server_name}</code>]] as const) : []),
    ["Shows a client certificate", tls.cert ? "yes" : "no"],
  ];
}

function CheckResult({ name }: { name: string }) {
  const health = useQuery(healthQuery);
  const state = health.data?.providers.find((each) => each.provider === name);
  if (!state) return <Unknown why={health.error?.message ?? "not checked yet"} />;
  return (
    <Mark tone={state.healthy ? "ok" : "bad"} title={state.reason}>
      {state.healthy ? "Healthy" : "Down"}, <Ago at={state.checked_at} why="not checked yet" />
    </Mark>
  );
}

function Credential({ provider, credential }: { provider: string; credential: Provider["credentials"][number] }) {
  const workers = useQuery(healthQuery).data?.workers ?? [];
  const avoiding = workers.filter((worker) => worker.aside.some((each) => each.provider === provider && each.credential === credential.name)).length;
  return (
    <>
      {avoiding > 0 ? <Mark tone="warn" title={`The provider refused or limited it: ${avoiding} of ${plural(workers.length, "worker")} use another`}>Set aside</Mark> : null}{" "}
      {credential.last_four ? <code>…{credential.last_four}</code> : <Unknown why="the secret is too short to show any of it" />}
    </>
  );
}

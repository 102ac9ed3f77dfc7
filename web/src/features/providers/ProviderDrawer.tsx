/** One provider: its address and the way there, its checks, its credentials (never their values), the routes that use it. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, type ReactNode } from "react";
import type { Provider } from "@/api/model";
import { useMay } from "@/api/session";
import { routesQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Id } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Unknown, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { span } from "@/units/time";
import { HowItFares } from "./HowItFares";
import { ProviderDeeds } from "./ProviderDeeds";
import { healthQuery, providerQuery } from "./queries";
import { TestForReal } from "./TestResult";

export function ProviderDrawer() {
  const { name } = useParams({ from: "/frame/providers/$name" });
  const navigate = useNavigate();
  const provider = useQuery(providerQuery(name));
  const close = useCallback(() => void navigate({ to: "/providers" }), [navigate]);
  return (
    <Drawer title={name} label={t`Provider ${name}`} close={close}>
      {provider.error ? <Problem error={provider.error} again={() => void provider.refetch()} /> : null}
      {provider.data ? <Details provider={provider.data} /> : provider.error ? null : <Skeleton height={240} />}
    </Drawer>
  );
}

function Details({ provider }: { provider: Provider }) {
  const routes = useQuery(routesQuery).data?.filter((route) => route.targets.some((target) => target.provider === provider.name));
  const canChange = useMay()("configuration:write");
  return (
    <>
      {canChange ? <ProviderDeeds provider={provider} routes={routes ?? []} /> : null}
      <Part title={t`Account`}>
        <Facts
          facts={[
            [t`Dialect`, provider.dialect],
            [t`Address`, <Id key="base" text={provider.base_url} what={t`address`} />],
            ...(provider.zone ? ([[t`Zone`, provider.zone]] as const) : []),
            ...(provider.tags.length > 0 ? ([[t`Tags`, provider.tags.join(", ")]] as const) : []),
            [t`Changed`, <When key="changed" at={provider.updated_at} />],
          ]}
        />
      </Part>
      <Part title={t`How it is reached`}>
        <Facts
          facts={[
            [t`Proxy`, proxyOf(provider)],
            ...tlsOf(provider),
            ...(provider.health
              ? ([
                  [
                    t`Checked`,
                    <Trans key="check">
                      <code>{provider.health.path}</code> every {span(provider.health.interval)}
                    </Trans>,
                  ],
                  [t`Its last check`, <CheckResult key="result" name={provider.name} />],
                  [t`Counts as down`, countsAsDown(provider.health)],
                ] as const)
              : ([[t`Checked`, t`no: what requests meet tells its state`]] as const)),
          ]}
        />
      </Part>
      <Part title={t`Credentials, sealed: their values are never shown again`}>
        {provider.credentials.length === 0 ? (
          <p>
            <Trans>None: requests go to it without a credential of ours.</Trans>
          </p>
        ) : (
          <Facts
            facts={provider.credentials.map((credential) => [
              credential.name,
              <Credential key="credential" provider={provider.name} credential={credential} />,
            ])}
          />
        )}
        {canChange ? <TestForReal key={provider.version} name={provider.name} credentials={provider.credentials.length} /> : null}
      </Part>
      <HowItFares provider={provider} />
      <Part title={t`Routes that use it`}>
        {routes?.length === 0 ? <p>{t`None: nothing reaches this provider.`}</p> : null}
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

function countsAsDown({ unhealthy_after: bad, healthy_after: good }: NonNullable<Provider["health"]>): string {
  return t`after ${plural(bad, { one: "# bad answer", other: "# bad answers" })} in a row; up again after ${plural(good, { one: "# good one", other: "# good ones" })}`;
}

/** The way there; the proxy's password is sealed and never shown. */
function proxyOf({ proxy }: Provider): ReactNode {
  if (!proxy) return t`as the service's environment says`;
  if (proxy.url === "none") return t`none, whatever the environment says`;
  if (!proxy.user) return <code>{proxy.url}</code>;
  return (
    <Trans>
      <code>{proxy.url}</code> as {proxy.user}
    </Trans>
  );
}

function tlsOf({ tls }: Provider): readonly (readonly [string, ReactNode])[] {
  if (!tls) return [];
  return [
    [t`Its certificate`, !tls.verify ? <Mark tone="warn">{t`Not verified`}</Mark> : tls.ca ? t`verified against this provider's own authorities` : t`verified against the system's authorities`],
    ...(tls.server_name ? ([[t`Must be made for`, <code key="name">{tls.server_name}</code>]] as const) : []),
    [t`Shows a client certificate`, tls.cert ? t`yes` : t`no`],
  ];
}

function CheckResult({ name }: { name: string }) {
  const health = useQuery(healthQuery);
  const state = health.data?.providers.find((each) => each.provider === name);
  if (!state) return <Unknown why={health.error?.message ?? t`not checked yet`} />;
  return (
    <Mark tone={state.healthy ? "ok" : "bad"} title={state.reason}>
      {state.healthy ? t`Healthy` : t`Down`}, <Ago at={state.checked_at} why={t`not checked yet`} />
    </Mark>
  );
}

function Credential({ provider, credential }: { provider: string; credential: Provider["credentials"][number] }) {
  const health = useQuery(healthQuery);
  const workers = health.data?.workers ?? [];
  const avoiding = workers.filter((worker) => worker.aside.some((each) => each.provider === provider && each.credential === credential.name)).length;
  return (
    <>
      {avoiding > 0 ? (
        <Mark tone="warn" title={t`The provider refused or limited it: ${avoiding} of ${plural(workers.length, { one: "# worker", other: "# workers" })} use another`}>
          <Trans>Set aside</Trans>
        </Mark>
      ) : workers.length > 0 ? (
        <Mark tone="ok" title={t`No worker has met a refusal of it lately`}>
          <Trans>No complaint</Trans>
        </Mark>
      ) : (
        <Unknown why={health.error?.message ?? t`no worker has told of it yet`} />
      )}{" "}
      {credential.last_four ? <code>…{credential.last_four}</code> : <Unknown why={t`the secret is too short to show any of it`} />}
    </>
  );
}

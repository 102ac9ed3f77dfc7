/** One app: what it may call, what it has used, its keys, and where else it may come from or go to. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import { RANGES, useRange } from "@/app/range";
import type { App, Cors } from "@/api/model";
import { sessionQuery, useMay } from "@/api/session";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { whyNone } from "@/features/overview/words";
import { Deeds } from "@/features/publish/Deeds";
import { draftRemoval } from "@/features/publish/queries";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Count, When } from "@/ui/Figure";
import { span } from "@/units/time";
import { AppEditForm } from "./AppForm";
import { Keys } from "./Keys";
import { appQuery, appsQuery, keysQuery, removeApp, teamsQuery } from "./queries";

export function AppDrawer() {
  const { name } = useParams({ from: "/frame/apps/$name" });
  const navigate = useNavigate();
  const app = useQuery(appQuery(name));
  const close = useCallback(() => void navigate({ to: "/apps" }), [navigate]);
  return (
    <Drawer title={name} label={t`App ${name}`} close={close}>
      {app.error ? <Problem error={app.error} again={() => void app.refetch()} /> : null}
      {app.data ? <Details app={app.data} /> : app.error ? null : <Skeleton height={320} />}
    </Drawer>
  );
}

function Details({ app }: { app: App }) {
  const range = useRange();
  const may = useMay();
  const own = useQuery(sessionQuery).data?.team ?? null;
  const usage = useQuery(usageQuery("app", range));
  const used = usage.data?.find((item) => item.app === app.name);
  const quiet = whyNone(usage);
  return (
    <>
      {may("apps:write") ? <Deeds kind="app" name={app.name} may edit={(close) => <AppEditForm app={app} close={close} />} remove={(close) => <RemoveApp app={app} close={close} />} /> : null}
      <Part title={t`App`}>
        <Facts
          facts={[
            [
              t`Team`,
              own === null ? (
                <Link key="team" to="/teams/$name" params={{ name: app.team }}>
                  {app.team}
                </Link>
              ) : (
                app.team
              ),
            ],
            [t`May call`, <MayCall key="own" app={app} />],
            ...(app.granted.length > 0 ? ([[t`Granted`, <Granted key="granted" app={app} />]] as const) : []),
            [t`Made`, <When key="made" at={app.created_at} />],
          ]}
        />
      </Part>
      <Part title={RANGES[range].label}>
        <Facts
          facts={[
            [
              t`Requests`,
              <Link key="r" to="/requests" search={{ app: app.name }}>
                <Count n={used?.requests} unit={t`requests`} why={quiet} />
              </Link>,
            ],
            [t`Tokens in`, <Count key="i" n={used?.input_tokens} unit={t`tokens`} why={quiet} />],
            [t`Tokens out`, <Count key="o" n={used?.output_tokens} unit={t`tokens`} why={quiet} />],
            [t`Spend`, <Spend key="s" of={used} why={quiet} />],
          ]}
        />
      </Part>
      <Keys app={app} />
      {app.cors ? <WebPages cors={app.cors} /> : null}
      {app.egress.length > 0 || app.sources.length > 0 ? (
        <Part title={t`Forward proxy and networks`}>
          <Facts
            facts={[
              [t`May reach`, app.egress.length > 0 ? <Codes key="egress" texts={app.egress} /> : t`nothing by way of the proxy`],
              [t`Known by its network`, app.sources.length > 0 ? <Codes key="sources" texts={app.sources} /> : t`no: by its keys alone`],
            ]}
          />
        </Part>
      ) : null}
    </>
  );
}

function RemoveApp({ app, close }: { app: App; close: () => void }) {
  const mayDraft = useMay()("configuration:write");
  const keys = useQuery(keysQuery).data?.filter((key) => key.app === app.name).length;
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <Confirm
      title={t`Remove ${app.name}?`}
      consequence={
        <p>
          {keys === undefined ? null : plural(keys, { 0: "It has no keys.", one: "Its # key is refused in every worker within a second.", other: "Its # keys are refused in every worker within a second." })}{" "}
          <Trans>Limits that name it go with it; its rows in the ledger stay.</Trans>
        </p>
      }
      deed={t`Remove ${app.name}`}
      draft={mayDraft ? () => draftRemoval("app", app.name) : undefined}
      act={async () => {
        await removeApp(app.name);
        await navigate({ to: "/apps" }); // first: its drawer would ask for what is gone
        await Promise.all([queries.invalidateQueries({ queryKey: appsQuery.queryKey, exact: true }), queries.invalidateQueries({ queryKey: keysQuery.queryKey }), queries.invalidateQueries({ queryKey: teamsQuery.queryKey })]);
      }}
      close={close}
    />
  );
}

/** Which web pages may use the app's keys (CORS). */
function WebPages({ cors }: { cors: Cors }) {
  return (
    <Part title={t`Web pages that may use its keys`}>
      <Facts
        facts={[
          [t`Origins`, <Codes key="origins" texts={cors.origins} />],
          [t`Methods`, <Codes key="methods" texts={cors.methods} />],
          [t`Request headers`, <Codes key="headers" texts={cors.headers} />],
          [t`Answer headers they may read`, cors.expose.length > 0 ? <Codes key="expose" texts={cors.expose} /> : t`the safelisted ones`],
          [t`Cookies and browser logins`, cors.credentials ? t`allowed` : t`not sent`],
          [t`Preflights are remembered`, span(cors.max_age)],
        ]}
      />
    </Part>
  );
}

const Codes = ({ texts }: { texts: readonly string[] }) => <code>{texts.join(", ")}</code>;

/** What it may call by itself. */
function MayCall({ app }: { app: App }) {
  if (app.routes === "*") return t`all routes`;
  if (app.routes.length === 0) return app.granted.length > 0 ? t`what it was granted` : t`nothing yet`;
  return app.routes.map((route, index) => (
    <span key={route}>
      {index > 0 ? ", " : ""}
      <Link to="/routes/$name" params={{ name: route }}>
        {route}
      </Link>
    </span>
  ));
}

/** What requests for access allow beside the app's own routes, each until when. */
function Granted({ app }: { app: App }) {
  return (
    <>
      {app.granted.map((grant) => (
        <div key={grant.route}>
          <Link to="/catalogue/$name" params={{ name: grant.route }}>
            {grant.route}
          </Link>{" "}
          <Link to="/access-requests/$id" params={{ id: String(grant.request) }}>
            {grant.expires_at ? (
              <Trans>
                until <When at={grant.expires_at} />
              </Trans>
            ) : (
              t`for good`
            )}
          </Link>
        </div>
      ))}
    </>
  );
}

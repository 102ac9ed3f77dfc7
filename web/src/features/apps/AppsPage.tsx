/** Teams, their apps, and what each app has used; an app's drawer holds its keys. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { useAdding } from "@/app/adding";
import { useRange } from "@/app/range";
import type { App, UsageItem } from "@/api/model";
import { sessionQuery, useMay } from "@/api/session";
import { RequestForm } from "@/features/access/RequestForm";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { whyNone } from "@/features/overview/words";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { AppForm } from "./AppForm";
import { appsQuery } from "./queries";
import { TeamTabs } from "./TeamTabs";

export function AppsPage() {
  const may = useMay();
  const apps = useQuery(appsQuery);
  const usage = useQuery(usageQuery("app", useRange()));
  const [making, setMaking] = useAdding();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((app: App) => void navigate({ to: "/apps/$name", params: { name: app.name } }), [navigate]);
  const team = useQuery(sessionQuery).data?.team ?? null;
  const quiet = whyNone(usage);
  const columns = useMemo(() => columnsWith(usage.data, quiet).filter((column) => team === null || column.id !== "team"), [usage.data, quiet, team]);
  const [asking, setAsking] = useState(false);
  const make = may("apps:write") ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      <Trans>Add an app</Trans>
    </Button>
  ) : null;
  const ask =
    team !== null && may("access:request") ? (
      <Button variant={make ? "default" : "filled"} onClick={() => setAsking(true)}>
        <Trans>Ask for access</Trans>
      </Button>
    ) : null;
  const action = (
    <>
      {ask}
      {make}
    </>
  );
  return (
    <Page
      title={team === null ? t`Teams & keys` : t`My apps`}
      line={team === null ? t`Which team's apps may call which routes, with which keys.` : t`What apps of ${team} may call, with which keys, and what they use.`}
      action={action}
    >
      {team === null ? <TeamTabs here="/apps" /> : null}
      <DataTable
        label={t`Apps`}
        columns={columns}
        rows={apps.data}
        rowId={(app) => app.name}
        error={apps.error}
        again={() => void apps.refetch()}
        open={open}
        openId={openId}
        empty={<Empty title={t`No apps`} why={t`An app belongs to a team, may call the routes that you name, and authenticates with keys of its own.`} action={action} snippet={team === null ? example : undefined} />}
      />
      {making && make ? <AppForm close={() => setMaking(false)} /> : null}
      {asking ? <RequestForm routes={[]} close={() => setAsking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

function columnsWith(usage: readonly UsageItem[] | undefined, quiet: string): readonly Column<App>[] {
  const of = (app: App) => usage?.find((item) => item.app === app.name);
  return [
    {
      id: "name",
      header: t`App`,
      sortBy: (app) => app.name,
      cell: (app) => (
        <Link to="/apps/$name" params={{ name: app.name }}>
          {app.name}
        </Link>
      ),
    },
    { id: "team", header: t`Team`, sortBy: (app) => app.team, cell: (app) => app.team },
    { id: "routes", header: t`May call`, hide: "phone", cell: (app) => mayCall(app) },
    { id: "requests", header: t`Requests`, number: true, sortBy: (app) => of(app)?.requests ?? 0, cell: (app) => <Count n={of(app)?.requests} unit={t`requests`} why={quiet} /> },
    {
      id: "tokens",
      header: t`Tokens`,
      number: true,
      hide: "tablet",
      sortBy: (app) => (of(app)?.input_tokens ?? 0) + (of(app)?.output_tokens ?? 0),
      cell: (app) => {
        const item = of(app);
        return <Count n={item && item.input_tokens + item.output_tokens} unit={t`tokens`} why={quiet} />;
      },
    },
    {
      id: "spend",
      header: t`Spend`,
      number: true,
      sortBy: (app) => of(app)?.cost_usd_micros ?? 0,
      cell: (app) => <Spend of={of(app)} why={quiet} />,
    },
  ];
}

function mayCall(app: App) {
  if (app.routes === "*") return t`all routes`;
  const routes = [...new Set([...app.routes, ...app.granted.map((grant) => grant.route)])].sort();
  return routes.length === 0 ? t`nothing yet` : <code>{routes.join(", ")}</code>;
}

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
teams:
  - {name: search, apps: [{name: indexer, routes: [chat]}]}`;

/** Teams, their apps, and what each app has used; an app's drawer holds its keys. */
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { useRange } from "@/app/range";
import type { App, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { AppForm } from "./AppForm";
import { appsQuery } from "./queries";

export function AppsPage() {
  const may = useMay();
  const apps = useQuery(appsQuery);
  const usage = useQuery(usageQuery("app", useRange()));
  const [making, setMaking] = useState(false);
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((app: App) => void navigate({ to: "/apps/$name", params: { name: app.name } }), [navigate]);
  const columns = useMemo(() => columnsWith(usage.data), [usage.data]);
  const make = may("apps:write") ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      Add an app
    </Button>
  ) : null;
  return (
    <Page title="Teams & keys" line="Which team's apps may call which routes, with which keys." action={make}>
      <DataTable
        label="Apps"
        columns={columns}
        rows={apps.data}
        rowId={(app) => app.name}
        error={apps.error}
        again={() => void apps.refetch()}
        open={open}
        openId={openId}
        empty={<Empty title="No apps" why="An app belongs to a team, may call the routes that you name, and authenticates with keys of its own." action={make} snippet={example} />}
      />
      {making ? <AppForm close={() => setMaking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

function columnsWith(usage: readonly UsageItem[] | undefined): readonly Column<App>[] {
  const of = (app: App) => usage?.find((item) => item.app === app.name);
  const quiet = usage ? "no requests in this range" : "loading";
  return [
    {
      id: "name",
      header: "App",
      sortBy: (app) => app.name,
      cell: (app) => (
        <Link to="/apps/$name" params={{ name: app.name }}>
          {app.name}
        </Link>
      ),
    },
    { id: "team", header: "Team", sortBy: (app) => app.team, cell: (app) => app.team },
    { id: "routes", header: "May call", hide: "phone", cell: (app) => mayCall(app) },
    { id: "requests", header: "Requests", number: true, sortBy: (app) => of(app)?.requests ?? 0, cell: (app) => <Count n={of(app)?.requests} unit="requests" why={quiet} /> },
    {
      id: "tokens",
      header: "Tokens",
      number: true,
      hide: "tablet",
      sortBy: (app) => (of(app)?.input_tokens ?? 0) + (of(app)?.output_tokens ?? 0),
      cell: (app) => {
        const item = of(app);
        return <Count n={item && item.input_tokens + item.output_tokens} unit="tokens" why={quiet} />;
      },
    },
    {
      id: "spend",
      header: "Spend",
      number: true,
      sortBy: (app) => of(app)?.cost_usd_micros ?? 0,
      cell: (app) => <Spend of={of(app)} why={quiet} />,
    },
  ];
}

function mayCall(app: App) {
  if (app.routes === "*") return "all routes";
  return app.routes.length === 0 ? "nothing yet" : <code>{app.routes.join(", ")}</code>;
}

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
teams:
  - {name: search, apps: [{name: indexer, routes: [chat]}]}`;

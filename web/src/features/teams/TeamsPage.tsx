/** Teams: their apps, the limits that they are held to, what they have used. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import type { Limit, Team, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { useRange } from "@/app/range";
import { teamsQuery } from "@/features/apps/queries";
import { TeamTabs } from "@/features/apps/TeamTabs";
import { limitsQuery } from "@/features/limits/queries";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Unknown } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { TeamForm } from "./TeamForm";

export function TeamsPage() {
  const may = useMay()("configuration:write");
  const teams = useQuery(teamsQuery);
  const limits = useQuery(limitsQuery).data;
  const usage = useQuery(usageQuery("team", useRange())).data;
  const [making, setMaking] = useState(false);
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((team: Team) => void navigate({ to: "/teams/$name", params: { name: team.name } }), [navigate]);
  const columns = useMemo(() => columnsWith(limits, usage), [limits, usage]);
  const make = may ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      <Trans>Add a team</Trans>
    </Button>
  ) : null;
  return (
    <Page title={t`Teams`} line={t`Whose apps call, how many limits hold them, and what they use together.`} action={make}>
      <TeamTabs here="/teams" />
      <DataTable
        label={t`Teams`}
        columns={columns}
        rows={teams.data}
        rowId={(team) => team.name}
        error={teams.error}
        again={() => void teams.refetch()}
        open={open}
        openId={openId}
        empty={<Empty title={t`No teams`} why={t`A team has apps, members and limits, and sees nothing of other teams.`} action={make} snippet={example} />}
      />
      {making ? <TeamForm close={() => setMaking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

function columnsWith(limits: readonly Limit[] | undefined, usage: readonly UsageItem[] | undefined): readonly Column<Team>[] {
  const of = (team: Team) => usage?.find((item) => item.team === team.name);
  const quiet = usage ? t`no requests in this range` : t`loading`;
  return [
    {
      id: "name",
      header: t`Team`,
      sortBy: (team) => team.name,
      cell: (team) => (
        <Link to="/teams/$name" params={{ name: team.name }}>
          {team.name}
        </Link>
      ),
    },
    { id: "apps", header: t`Apps`, cell: (team) => (team.apps.length > 0 ? <code>{team.apps.join(", ")}</code> : <Unknown why={t`none yet`} />) },
    { id: "limits", header: t`Limits`, number: true, hide: "phone", cell: (team) => <Count n={limits?.filter((limit) => limit.scope.team === team.name).length} unit={t`limits`} why={t`loading`} /> },
    { id: "requests", header: t`Requests`, number: true, hide: "phone", sortBy: (team) => of(team)?.requests ?? 0, cell: (team) => <Count n={of(team)?.requests} unit={t`requests`} why={quiet} /> },
    { id: "spend", header: t`Spend`, number: true, sortBy: (team) => of(team)?.cost_usd_micros ?? 0, cell: (team) => <Spend of={of(team)} why={quiet} /> },
  ];
}

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
teams:
  - {name: search, apps: [{name: indexer, routes: [chat]}]}`;

/** One team: its apps, its members, the limits that hold it. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import { RANGES, useRange } from "@/app/range";
import type { Team } from "@/api/model";
import { useMay } from "@/api/session";
import { removeTeam, teamQuery, teamsQuery } from "@/features/apps/queries";
import { promise } from "@/features/limits/amount";
import { limitsQuery } from "@/features/limits/queries";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { Deeds } from "@/features/publish/Deeds";
import { draftRemoval } from "@/features/publish/queries";
import { usersQuery } from "@/features/users/queries";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Count, When } from "@/ui/Figure";
import { TeamEditForm } from "./TeamForm";

export function TeamDrawer() {
  const { name } = useParams({ from: "/frame/teams/$name" });
  const navigate = useNavigate();
  const team = useQuery(teamQuery(name));
  const close = useCallback(() => void navigate({ to: "/teams" }), [navigate]);
  return (
    <Drawer title={name} label={t`Team ${name}`} close={close}>
      {team.error ? <Problem error={team.error} again={() => void team.refetch()} /> : null}
      {team.data ? <Details team={team.data} /> : team.error ? null : <Skeleton height={240} />}
    </Drawer>
  );
}

function Details({ team }: { team: Team }) {
  const may = useMay();
  const range = useRange();
  const used = useQuery(usageQuery("team", range)).data?.find((item) => item.team === team.name);
  const limits = useQuery(limitsQuery).data?.filter((limit) => limit.scope.team === team.name);
  const members = useQuery({ ...usersQuery, enabled: may("members") }).data?.filter((user) => user.team === team.name);
  const quiet = t`no requests in this range`;
  return (
    <>
      {may("configuration:write") ? <Deeds kind="team" name={team.name} may edit={(close) => <TeamEditForm team={team} close={close} />} remove={(close) => <RemoveTeam team={team} close={close} />} /> : null}
      <Part title={t`Team`}>
        <Facts
          facts={[
            [t`Apps`, team.apps.length > 0 ? <Apps key="apps" names={team.apps} /> : t`none: it can call nothing yet`],
            ...(members ? ([[t`Members`, members.length > 0 ? members.map((user) => user.name).join(", ") : t`none: nobody sees its own pages`]] as const) : []),
            [t`Made`, <When key="made" at={team.created_at} />],
          ]}
        />
      </Part>
      <Part title={RANGES[range].label}>
        <Facts
          facts={[
            [t`Requests`, <Count key="r" n={used?.requests} unit={t`requests`} why={quiet} />],
            [t`Tokens in`, <Count key="i" n={used?.input_tokens} unit={t`tokens`} why={quiet} />],
            [t`Tokens out`, <Count key="o" n={used?.output_tokens} unit={t`tokens`} why={quiet} />],
            [t`Spend`, <Spend key="s" of={used} why={quiet} />],
          ]}
        />
      </Part>
      {limits ? (
        <Part title={t`Limits that name it`}>
          <Facts
            facts={
              limits.length === 0
                ? [[t`None`, t`what its apps may spend together is not bounded`]]
                : limits.map((limit) => [
                    limit.name,
                    <Link key="limit" to="/limits/$name" params={{ name: limit.name }}>
                      {promise(limit)}
                    </Link>,
                  ])
            }
          />
        </Part>
      ) : null}
    </>
  );
}

function Apps({ names }: { names: readonly string[] }) {
  return names.map((app, index) => (
    <span key={app}>
      {index > 0 ? ", " : ""}
      <Link to="/apps/$name" params={{ name: app }}>
        {app}
      </Link>
    </span>
  ));
}

function RemoveTeam({ team, close }: { team: Team; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const names = team.apps.join(", ");
  return (
    <Confirm
      title={t`Remove ${team.name}?`}
      consequence={
        <>
          <p>
            <Trans>Limits that name it go with it. Its users and tokens must be moved or removed first; its rows in the ledger stay.</Trans>
          </p>
          {team.apps.length > 0 ? <p>{plural(team.apps.length, { one: `# app is still its own: ${names}. Move or remove it first.`, other: `# apps are still its own: ${names}. Move or remove them first.` })}</p> : null}
        </>
      }
      deed={t`Remove ${team.name}`}
      draft={() => draftRemoval("team", team.name)}
      act={async () => {
        await removeTeam(team.name);
        await navigate({ to: "/teams" }); // first: its drawer would ask for what is gone
        await queries.invalidateQueries({ queryKey: teamsQuery.queryKey, exact: true });
      }}
      close={close}
    />
  );
}

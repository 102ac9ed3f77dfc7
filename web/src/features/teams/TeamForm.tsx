/** A team, new or with another name. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Team } from "@/api/model";
import { appsQuery, changeTeam, keysQuery, makeTeam, teamQuery, teamsQuery } from "@/features/apps/queries";
import { limitsQuery } from "@/features/limits/queries";
import { EditForm } from "@/features/publish/EditForm";
import { draftEntry } from "@/features/publish/queries";
import type { Shape } from "@/features/publish/useEditing";
import { FormDialog } from "@/ui/FormDialog";
import { useWrong } from "@/ui/wrong";

interface TeamWritten {
  name: string;
}

const TEAM: Shape<TeamWritten> = {
  kind: "team",
  read: ({ name }) => ({ name: String(name ?? "") }),
  wanted: ({ name }) => ({ name: name.trim() }),
};

const isComplete = ({ name }: TeamWritten): boolean => name.trim() !== "";

export function TeamForm({ close }: { close: () => void }) {
  const [written, setWritten] = useState<TeamWritten>({ name: "" });
  const queries = useQueryClient();
  const navigate = useNavigate();
  const name = written.name.trim();
  return (
    <FormDialog
      title={t`Add a team`}
      deed={name ? t`Add ${name}` : t`Add the team`}
      complete={isComplete(written)}
      act={() => makeTeam(name)}
      draft={() => draftEntry("team", name, { name }, "none")}
      done={async (team) => {
        await queries.invalidateQueries({ queryKey: teamsQuery.queryKey });
        close();
        await navigate({ to: "/teams/$name", params: { name: team.name } });
      }}
      close={close}
    >
      <NameField written={written} change={setWritten} why={t`Its apps’ requests, cost and limits stand under this name`} />
    </FormDialog>
  );
}

export function TeamEditForm({ team, close }: { team: Team; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <EditForm
      shape={TEAM}
      thing={team}
      save={(version, patch) => changeTeam(team.name, version, patch)}
      reread={() => queries.fetchQuery({ ...teamQuery(team.name), staleTime: 0 })}
      shown={[teamsQuery.queryKey, appsQuery.queryKey, keysQuery.queryKey, limitsQuery.queryKey, ["users"], ["session"]]}
      done={(saved) => navigate({ to: "/teams/$name", params: { name: saved.name } })}
      complete={isComplete}
      renaming={<Trans>What the ledger has stays under the old one.</Trans>}
      close={close}
    >
      {(written, change) => <NameField written={written} change={change} why={t`Its apps, members and limits stay with it`} />}
    </EditForm>
  );
}

function NameField({ written, change, why }: { written: TeamWritten; change: (part: TeamWritten) => void; why: string }) {
  return <TextInput label={t`Name`} description={why} required value={written.name} onChange={(event) => change({ name: event.currentTarget.value })} error={useWrong()("name")} data-autofocus />;
}

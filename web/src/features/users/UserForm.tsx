/** A new user; without a password one is made and shown once. */
import { t } from "@lingui/core/macro";
import { PasswordInput, Select } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Role, UserMade } from "@/api/model";
import { grantable, isTeamRole } from "@/api/roles";
import { sessionQuery, useNameMark } from "@/api/session";
import { teamsQuery } from "@/features/apps/queries";
import { FormDialog } from "@/ui/FormDialog";
import { OwnName, wholeName } from "@/ui/OwnName";
import { ShownOnce } from "@/ui/ShownOnce";
import { makeUser, usersQuery } from "./queries";

export function UserForm({ close }: { close: () => void }) {
  const session = useQuery(sessionQuery).data;
  const teams = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const roles = grantable(session?.role);
  const mark = useNameMark();
  const [rest, setRest] = useState("");
  const name = rest.trim() === "" ? "" : wholeName(mark, rest);
  const [password, setPassword] = useState("");
  const [role, setRole] = useState<Role>(roles.at(-3)?.value ?? "team-member");
  const [team, setTeam] = useState<string | null>(session?.team ?? null);
  const [made, setMade] = useState<UserMade>();
  const queries = useQueryClient();

  if (made?.password) return <ShownOnce title={t`Password of ${made.name}`} secret={made.password} copy={t`Copy the password`} close={close} />;
  return (
    <FormDialog
      title={t`Add a user`}
      deed={name ? t`Add ${name}` : t`Add the user`}
      complete={name !== "" && (!isTeamRole(role) || team !== null)}
      act={() => makeUser({ name, role, ...(password ? { password } : {}), ...(isTeamRole(role) && team ? { team } : {}) })}
      done={async (user) => {
        await queries.invalidateQueries({ queryKey: usersQuery.queryKey });
        if (user.password) setMade(user);
        else close();
      }}
      close={close}
    >
      <OwnName mark={mark} label={t`User`} required value={rest} onChange={(event) => setRest(event.currentTarget.value)} autoComplete="off" data-autofocus />
      <Select label={t`Role`} data={[...roles]} value={role} allowDeselect={false} onChange={(chosen) => setRole(chosen as Role)} />
      {isTeamRole(role) ? <Select label={t`Team`} required data={teams} value={team} onChange={setTeam} searchable /> : null}
      <PasswordInput
        label={t`Password`}
        description={t`Left empty, one is made and shown once`}
        value={password}
        onChange={(event) => setPassword(event.currentTarget.value)}
        autoComplete="new-password"
        visibilityToggleButtonProps={{ "aria-label": t`Show the password` }}
      />
    </FormDialog>
  );
}

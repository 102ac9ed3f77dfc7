/** A new token, shown once. */
import { t } from "@lingui/core/macro";
import { MultiSelect, Select } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Permission, Role, TokenMade } from "@/api/model";
import { grantable, isTeamRole } from "@/api/roles";
import { sessionQuery, useNameMark } from "@/api/session";
import { teamsQuery } from "@/features/apps/queries";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";
import { FormDialog } from "@/ui/FormDialog";
import { OwnName, wholeName } from "@/ui/OwnName";
import { ShownOnce } from "@/ui/ShownOnce";
import { makeToken, rolesQuery, tokensQuery } from "./queries";

export function TokenForm({ close }: { close: () => void }) {
  const session = useQuery(sessionQuery).data;
  const teams = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const roles = grantable(session?.role);
  const mark = useNameMark();
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>(roles.at(-3)?.value ?? "team-member");
  const [team, setTeam] = useState<string | null>(session?.team ?? null);
  const [scopes, setScopes] = useState<Permission[]>([]);
  const permissions = useQuery(rolesQuery).data?.find((each) => each.role === role)?.permissions.filter((each) => each !== "session") ?? [];
  const [expiry, setExpiry] = useState<Expiry>("90");
  const [made, setMade] = useState<TokenMade>();
  const queries = useQueryClient();

  if (made) return <ShownOnce title={t`Token ${made.name}`} secret={made.token} copy={t`Copy the token`} close={close} />;
  return (
    <FormDialog
      title={t`Make a token`}
      deed={t`Make the token`}
      complete={name.trim() !== "" && (!isTeamRole(role) || team !== null)}
      act={() => makeToken({ name: wholeName(mark, name), role, ...(isTeamRole(role) && team ? { team } : {}), ...(scopes.length > 0 ? { scopes } : {}), ...expiryOf(expiry, Date.now()) })}
      done={async (token) => {
        setMade(token);
        await queries.invalidateQueries({ queryKey: tokensQuery.queryKey });
      }}
      close={close}
    >
      <OwnName mark={mark} label={t`Name`} description={t`Who or what will carry it`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Select label={t`Role`} data={[...roles]} value={role} allowDeselect={false} onChange={(chosen) => {
        setRole(chosen as Role);
        setScopes([]);
      }} />
      {isTeamRole(role) ? <Select label={t`Team`} required data={teams} value={team} onChange={setTeam} searchable /> : null}
      <MultiSelect
        label={t`Scopes`}
        description={t`Confine it to some of what the role may; none chosen: all`}
        data={permissions}
        value={scopes}
        onChange={(chosen) => setScopes(chosen as Permission[])}
        placeholder={scopes.length === 0 ? t`All of the role's` : ""}
        searchable
        clearable
      />
      <Select label={t`Expires`} data={EXPIRIES.map((each) => ({ ...each }))} value={expiry} allowDeselect={false} onChange={(chosen) => setExpiry(chosen as Expiry)} />
    </FormDialog>
  );
}

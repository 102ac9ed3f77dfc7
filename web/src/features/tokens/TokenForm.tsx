/** A new token, shown once. */
import { Button, Group, Select, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import type { Role, TokenMade } from "@/api/model";
import { grantable, isTeamRole } from "@/api/roles";
import { sessionQuery } from "@/api/session";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";
import { teamsQuery } from "@/features/apps/queries";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import { ShownOnce } from "@/ui/ShownOnce";
import { makeToken } from "./queries";

export function TokenForm({ close }: { close: () => void }) {
  const session = useQuery(sessionQuery).data;
  const teams = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const roles = grantable(session?.role);
  const [name, setName] = useState("");
  const [role, setRole] = useState<Role>(roles.at(-3)?.value ?? "team-member");
  const [team, setTeam] = useState<string | null>(session?.team ?? null);
  const [expiry, setExpiry] = useState<Expiry>("90");
  const [made, setMade] = useState<TokenMade>();
  const queries = useQueryClient();
  const making = useMutation({
    mutationFn: () => makeToken({ name: name.trim(), role, ...(isTeamRole(role) && team ? { team } : {}), ...expiryOf(expiry, Date.now()) }),
    onSuccess: async (token) => {
      setMade(token);
      await queries.invalidateQueries({ queryKey: ["tokens"] });
    },
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    making.mutate();
  }

  if (made) return <ShownOnce title={`Token ${made.name}`} secret={made.token} copy="Copy the token" close={close} />;
  return (
    <Dialog title="Make a token" close={close}>
      <form onSubmit={submit} style={{ display: "grid", gap: 14 }}>
        {making.error ? <Problem error={making.error} /> : null}
        <TextInput label="Name" description="Who or what will carry it" required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
        <Select label="Role" data={[...roles]} value={role} allowDeselect={false} onChange={(chosen) => setRole(chosen as Role)} />
        {isTeamRole(role) ? <Select label="Team" required data={teams} value={team} onChange={setTeam} searchable /> : null}
        <Select label="Expires" data={EXPIRIES.map((each) => ({ ...each }))} value={expiry} allowDeselect={false} onChange={(chosen) => setExpiry(chosen as Expiry)} />
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={making.isPending} disabled={name.trim() === "" || (isTeamRole(role) && !team)}>
            Make the token
          </Button>
        </Group>
      </form>
    </Dialog>
  );
}

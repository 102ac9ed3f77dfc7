/** Who signs in to this console, and as what. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, Menu } from "@mantine/core";
import { IconDots, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { useAdding } from "@/app/adding";
import type { User } from "@/api/model";
import { sessionQuery } from "@/api/session";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, Unknown, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Page } from "@/ui/Page";
import { usersQuery } from "./queries";
import { UserDeed, type Deed } from "./UserDeed";
import { UserForm } from "./UserForm";

export function UsersPage() {
  const users = useQuery(usersQuery);
  const session = useQuery(sessionQuery).data;
  const [making, setMaking] = useAdding();
  const [doing, setDoing] = useState<{ deed: Deed; user: User }>();
  const columns: readonly Column<User>[] = [
    { id: "name", header: t`User`, sortBy: (user) => user.name, cell: (user) => (user.name === session?.username ? t`${user.name} (you)` : user.name) },
    { id: "role", header: t`Role`, sortBy: (user) => user.role, cell: (user) => user.role },
    { id: "team", header: t`Team`, hide: "phone", cell: (user) => user.team ?? <Unknown why={t`this role is not of a team`} /> },
    { id: "source", header: t`Comes from`, hide: "tablet", sortBy: (user) => user.source, cell: (user) => <From user={user} /> },
    { id: "state", header: t`State`, cell: (user) => (user.disabled ? <Mark tone="idle">{t`Disabled`}</Mark> : <Mark tone="ok">{t`May sign in`}</Mark>) },
    { id: "factor", header: t`Second factor`, hide: "phone", sortBy: factors, cell: (user) => (user.source !== "local" ? t`as its provider asks` : factors(user) === "" ? <Mark tone="idle">{t`None`}</Mark> : <Mark tone="ok">{factors(user)}</Mark>) },
    { id: "seen", header: t`Last sign-in`, hide: "phone", sortBy: (user) => user.last_sign_in_at ?? "", cell: (user) => <Ago at={user.last_sign_in_at} why={t`not since this is kept`} /> },
    { id: "made", header: t`Made`, hide: "tablet", cell: (user) => <When at={user.created_at} /> },
    { id: "deed", header: "", number: true, cell: (user) => (user.name === session?.username ? null : <Deeds user={user} choose={(deed) => setDoing({ deed, user })} />) },
  ];
  return (
    <Page
      title={t`Users`}
      line={t`Who signs in to this console, and what each may do.`}
      action={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
          <Trans>Add a user</Trans>
        </Button>
      }
    >
      <DataTable
        label={t`Users`}
        columns={columns}
        rows={users.data}
        rowId={(user) => String(user.id)}
        error={users.error}
        again={() => void users.refetch()}
        empty={<Empty title={t`No users`} why={t`Nobody else can sign in whose role you may hand on.`} />}
      />
      {making ? <UserForm close={() => setMaking(false)} /> : null}
      {doing ? <UserDeed {...doing} close={() => setDoing(undefined)} /> : null}
    </Page>
  );
}

/** Who manages the account. */
function From({ user }: { user: User }) {
  if (user.source === "local") return t`here`;
  const by = user.provider === null ? "" : ` · ${user.provider}`;
  return user.source === "scim" ? `SCIM${by}` : (user.provider ?? <Unknown why={t`its provider has been removed: there is no way in`} />);
}

/** What there is beside the password; "" = nothing. */
function factors(user: User): string {
  if (user.totp && user.passkeys > 0) return t`App and passkey`;
  if (user.totp) return t`App`;
  return user.passkeys > 0 ? t`Passkey` : "";
}

function Deeds({ user, choose }: { user: User; choose: (deed: Deed) => void }) {
  return (
    <Menu shadow="md" position="bottom-end" transitionProps={{ duration: 120 }}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" aria-label={t`What to do with ${user.name}`}>
          <IconDots size={18} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Item disabled={user.sessions === 0} onClick={() => choose("sign-out")}>
          <Trans>Sign out everywhere</Trans>
        </Menu.Item>
        <Menu.Item disabled={factors(user) === ""} onClick={() => choose("reset")}>
          <Trans>Reset second factor</Trans>
        </Menu.Item>
        <Menu.Divider />
        <Menu.Item color="red" onClick={() => choose("remove")}>
          <Trans>Remove {user.name}</Trans>
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

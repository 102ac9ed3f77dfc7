/** Who signs in to this console, and as what. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { User } from "@/api/model";
import { sessionQuery } from "@/api/session";
import { Empty } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { DataTable, type Column } from "@/ui/DataTable";
import { Unknown, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Page } from "@/ui/Page";
import { removeUser, usersQuery } from "./queries";
import { UserForm } from "./UserForm";

export function UsersPage() {
  const users = useQuery(usersQuery);
  const session = useQuery(sessionQuery).data;
  const [making, setMaking] = useState(false);
  const [removing, setRemoving] = useState<User>();
  const queries = useQueryClient();
  const columns: readonly Column<User>[] = [
    { id: "name", header: t`User`, sortBy: (user) => user.name, cell: (user) => (user.name === session?.username ? t`${user.name} (you)` : user.name) },
    { id: "role", header: t`Role`, sortBy: (user) => user.role, cell: (user) => user.role },
    { id: "team", header: t`Team`, hide: "phone", cell: (user) => user.team ?? <Unknown why={t`this role is not of a team`} /> },
    { id: "state", header: t`State`, cell: (user) => (user.disabled ? <Mark tone="idle">{t`Disabled`}</Mark> : <Mark tone="ok">{t`May sign in`}</Mark>) },
    { id: "made", header: t`Made`, hide: "phone", cell: (user) => <When at={user.created_at} /> },
    {
      id: "deed",
      header: "",
      number: true,
      cell: (user) =>
        user.name === session?.username ? null : (
          <Button size="compact-sm" variant="subtle" color="red" onClick={() => setRemoving(user)} aria-label={t`Remove ${user.name}`}>
            <Trans>Remove</Trans>
          </Button>
        ),
    },
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
      {removing ? (
        <Confirm
          title={t`Remove ${removing.name}?`}
          consequence={t`${removing.name} is signed out everywhere at once and cannot sign in again. What they have changed stays, and stays in the audit log.`}
          deed={t`Remove ${removing.name}`}
          act={async () => {
            await removeUser(removing.id);
            await queries.invalidateQueries({ queryKey: ["users"] });
          }}
          close={() => setRemoving(undefined)}
        />
      ) : null}
    </Page>
  );
}

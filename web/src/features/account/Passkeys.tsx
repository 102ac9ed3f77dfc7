/** The own passkeys: renamed, removed. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Passkey } from "@/api/model";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, When } from "@/ui/Figure";
import { FormDialog } from "@/ui/FormDialog";
import { passkeysQuery, removePasskey, renamePasskey, useRenewed } from "./queries";
import { WithPassword } from "./WithPassword";

export function Passkeys({ hasPassword }: { hasPassword: boolean }) {
  const passkeys = useQuery(passkeysQuery);
  const [renaming, setRenaming] = useState<Passkey>();
  const [removing, setRemoving] = useState<Passkey>();
  const renewed = useRenewed();
  const columns: readonly Column<Passkey>[] = [
    { id: "name", header: t`Passkey`, cell: (passkey) => passkey.name },
    { id: "host", header: t`For`, hide: "tablet", cell: (passkey) => passkey.host },
    { id: "kept", header: t`Kept`, hide: "tablet", cell: (passkey) => (passkey.synced ? t`Synced by its maker` : t`On one device`) },
    { id: "used", header: t`Last used`, hide: "phone", cell: (passkey) => <Ago at={passkey.last_used_at} /> },
    { id: "made", header: t`Made`, hide: "phone", cell: (passkey) => <When at={passkey.created_at} /> },
    {
      id: "deed",
      header: "",
      number: true,
      cell: (passkey) => (
        <>
          <Button size="compact-sm" variant="subtle" color="gray" onClick={() => setRenaming(passkey)} aria-label={t`Rename ${passkey.name}`}>
            <Trans>Rename</Trans>
          </Button>
          <Button size="compact-sm" variant="subtle" color="red" onClick={() => setRemoving(passkey)} aria-label={t`Remove ${passkey.name}`}>
            <Trans>Remove</Trans>
          </Button>
        </>
      ),
    },
  ];
  return (
    <>
      <DataTable label={t`Passkeys`} columns={columns} rows={passkeys.data} rowId={(passkey) => String(passkey.id)} error={passkeys.error} again={() => void passkeys.refetch()} empty={null} />
      {renaming ? <RenameForm passkey={renaming} done={renewed} close={() => setRenaming(undefined)} /> : null}
      {removing ? (
        <WithPassword
          title={t`Remove ${removing.name}?`}
          deed={t`Remove ${removing.name}`}
          hasPassword={hasPassword}
          act={(password) => removePasskey(removing.id, password)}
          done={async () => {
            setRemoving(undefined);
            await renewed();
          }}
          close={() => setRemoving(undefined)}
        >
          {passkeys.data?.length === 1 ? (
            <Trans>It is your only passkey: from then on you sign in by password, and by the authenticator app's code where one is set up.</Trans>
          ) : (
            <Trans>It does not let you in any more. Remove it from the device, too: nobody can do that from here.</Trans>
          )}
        </WithPassword>
      ) : null}
    </>
  );
}

function RenameForm({ passkey, done, close }: { passkey: Passkey; done: () => Promise<void>; close: () => void }) {
  const [name, setName] = useState(passkey.name);
  return (
    <FormDialog
      title={t`Rename ${passkey.name}`}
      deed={t`Rename it`}
      complete={name.trim() !== ""}
      act={() => renamePasskey(passkey.id, name.trim())}
      done={async () => {
        close();
        await done();
      }}
      close={close}
    >
      <TextInput label={t`Name`} required value={name} onChange={(event) => setName(event.currentTarget.value)} autoComplete="off" data-autofocus />
    </FormDialog>
  );
}

/** A new key of an app, shown once. */
import { t } from "@lingui/core/macro";
import { Select, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { App, KeyMade } from "@/api/model";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";
import { FormDialog } from "@/ui/FormDialog";
import { ShownOnce } from "@/ui/ShownOnce";
import { keysQuery, makeKey } from "./queries";

export function KeyForm({ app, close }: { app: App; close: () => void }) {
  const [name, setName] = useState("");
  const [expiry, setExpiry] = useState<Expiry>("never");
  const [made, setMade] = useState<KeyMade>();
  const queries = useQueryClient();

  if (made?.key) return <ShownOnce title={t`Key ${made.name} for ${app.name}`} secret={made.key} copy={t`Copy the key`} close={close} />;
  return (
    <FormDialog
      title={t`Make a key for ${app.name}`}
      deed={t`Make the key`}
      complete={name.trim() !== ""}
      act={() => makeKey({ app: app.name, name: name.trim(), ...expiryOf(expiry, Date.now()) })}
      done={async (key) => {
        setMade(key);
        await queries.invalidateQueries({ queryKey: keysQuery.queryKey });
      }}
      close={close}
    >
      <TextInput label={t`Name`} description={t`Where it will be used, e.g. ci or laptop`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Select label={t`Expires`} data={EXPIRIES.map((each) => ({ ...each }))} value={expiry} allowDeselect={false} onChange={(chosen) => setExpiry(chosen as Expiry)} />
    </FormDialog>
  );
}

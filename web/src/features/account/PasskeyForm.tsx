/** A new passkey: its name and the password here, the rest is between browser and authenticator. */
import { t } from "@lingui/core/macro";
import { TextInput } from "@mantine/core";
import { useState } from "react";
import type { Account } from "@/api/model";
import { makePasskey } from "@/api/passkey";
import { FormDialog } from "@/ui/FormDialog";
import { OwnPassword } from "./WithPassword";
import { deviceWords } from "./words";

interface PasskeyFormProps {
  account: Account;
  done: (codes: readonly string[]) => unknown;
  close: () => void;
}

export function PasskeyForm({ account, done, close }: PasskeyFormProps) {
  const [name, setName] = useState(() => deviceWords(navigator.userAgent));
  const [password, setPassword] = useState("");
  return (
    <FormDialog
      title={t`Add a passkey`}
      deed={t`Make the passkey`}
      complete={name.trim() !== "" && (!account.has_password || password !== "")}
      act={() => makePasskey(name.trim(), account.has_password ? password : null)}
      done={(made) => done(made.recovery_codes)}
      close={close}
    >
      <TextInput label={t`Name`} description={t`To tell it from others: where it is kept`} required value={name} onChange={(event) => setName(event.currentTarget.value)} autoComplete="off" />
      {account.has_password ? <OwnPassword value={password} onChange={setPassword} /> : null}
    </FormDialog>
  );
}

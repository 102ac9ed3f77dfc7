/** A deed that weakens or changes how one signs in: its consequence, and the password once more. */
import { t } from "@lingui/core/macro";
import { PasswordInput } from "@mantine/core";
import { useState, type ReactNode } from "react";
import { FormDialog } from "@/ui/FormDialog";

interface WithPasswordProps<Result> {
  title: string;
  deed: string;
  hasPassword: boolean;
  act: (password: string | null) => Promise<Result>;
  done: (result: Result) => unknown;
  close: () => void;
  children: ReactNode;
}

export function WithPassword<Result>({ title, deed, hasPassword, act, done, close, children }: WithPasswordProps<Result>) {
  const [password, setPassword] = useState("");
  return (
    <FormDialog title={title} deed={deed} complete={!hasPassword || password !== ""} act={() => act(hasPassword ? password : null)} done={done} close={close}>
      <div>{children}</div>
      {hasPassword ? <OwnPassword value={password} onChange={setPassword} /> : null}
    </FormDialog>
  );
}

export function OwnPassword({ value, onChange }: { value: string; onChange: (password: string) => void }) {
  return (
    <PasswordInput
      label={t`Your password`}
      description={t`Once more, to be sure that it is you`}
      required
      autoComplete="current-password"
      value={value}
      onChange={(event) => onChange(event.currentTarget.value)}
      visibilityToggleButtonProps={{ "aria-label": t`Show the password` }}
      data-autofocus
    />
  );
}

/** The own password; all other sessions of the user end. */
import { t } from "@lingui/core/macro";
import { PasswordInput } from "@mantine/core";
import { useState } from "react";
import { api, unwrap } from "@/api/client";
import { FormDialog } from "@/ui/FormDialog";

export function PasswordForm({ hasPassword, done, close }: { hasPassword: boolean; done: () => unknown; close: () => void }) {
  const [current, setCurrent] = useState("");
  const [chosen, setChosen] = useState("");
  const toggle = { "aria-label": t`Show the password` };
  return (
    <FormDialog
      title={hasPassword ? t`Change password` : t`Set a password`}
      deed={hasPassword ? t`Change password` : t`Set a password`}
      complete={(current !== "" || !hasPassword) && chosen !== ""}
      act={() => unwrap(api.PUT("/api/v1/session/password", { body: { current, new: chosen } }))}
      done={done}
      close={close}
    >
      {hasPassword ? (
        <PasswordInput label={t`Present password`} required autoComplete="current-password" value={current} onChange={(event) => setCurrent(event.currentTarget.value)} visibilityToggleButtonProps={toggle} data-autofocus />
      ) : null}
      <PasswordInput label={t`New password`} description={t`At least 8 characters. You are signed out everywhere else`} required autoComplete="new-password" value={chosen} onChange={(event) => setChosen(event.currentTarget.value)} visibilityToggleButtonProps={toggle} />
    </FormDialog>
  );
}

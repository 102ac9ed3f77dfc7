/** The own password; all other sessions of the user end. */
import { t } from "@lingui/core/macro";
import { PasswordInput } from "@mantine/core";
import { useState } from "react";
import { api, unwrap } from "@/api/client";
import { FormDialog } from "@/ui/FormDialog";

export default function PasswordForm({ close }: { close: () => void }) {
  const [current, setCurrent] = useState("");
  const [chosen, setChosen] = useState("");
  const toggle = { "aria-label": t`Show the password` };
  return (
    <FormDialog
      title={t`Change password`}
      deed={t`Change password`}
      complete={current !== "" && chosen !== ""}
      act={() => unwrap(api.PUT("/api/v1/session/password", { body: { current, new: chosen } }))}
      done={close}
      close={close}
    >
      <PasswordInput label={t`Present password`} required autoComplete="current-password" value={current} onChange={(event) => setCurrent(event.currentTarget.value)} visibilityToggleButtonProps={toggle} data-autofocus />
      <PasswordInput label={t`New password`} description={t`You are signed out everywhere else`} required autoComplete="new-password" value={chosen} onChange={(event) => setChosen(event.currentTarget.value)} visibilityToggleButtonProps={toggle} />
    </FormDialog>
  );
}

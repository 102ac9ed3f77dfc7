/** The own password; all other sessions of the user end. */
import { Button, Group, PasswordInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { api, unwrap } from "@/api/client";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";

export default function PasswordForm({ close }: { close: () => void }) {
  const [current, setCurrent] = useState("");
  const [chosen, setChosen] = useState("");
  const changing = useMutation({
    mutationFn: () => unwrap(api.PUT("/api/v1/session/password", { body: { current, new: chosen } })),
    onSuccess: close,
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    changing.mutate();
  }

  const toggle = { "aria-label": "Show the password" };
  return (
    <Dialog title="Change password" close={close}>
      <form onSubmit={submit} style={{ display: "grid", gap: 14 }}>
        {changing.error ? <Problem error={changing.error} /> : null}
        <PasswordInput label="Present password" required autoComplete="current-password" value={current} onChange={(event) => setCurrent(event.currentTarget.value)} visibilityToggleButtonProps={toggle} data-autofocus />
        <PasswordInput label="New password" description="You are signed out everywhere else" required autoComplete="new-password" value={chosen} onChange={(event) => setChosen(event.currentTarget.value)} visibilityToggleButtonProps={toggle} />
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={changing.isPending} disabled={current === "" || chosen === ""}>
            Change password
          </Button>
        </Group>
      </form>
    </Dialog>
  );
}

/** The first step: user and password, or a passkey, which needs no second one. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import type { SecondStep, Session } from "@/api/model";
import { signIn } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { PasskeyButton } from "./PasskeyButton";
import styles from "./login.module.css";

interface PasswordStepProps {
  enter: (session: Session) => void;
  second: (step: SecondStep) => void;
}

export function PasswordStep({ enter, second }: PasswordStepProps) {
  const [username, setUsername] = useState("");
  const [password, setPassword] = useState("");
  const entering = useMutation({
    mutationFn: () => signIn(username, password),
    onSuccess: (answer) => ("ticket" in answer ? second(answer) : enter(answer)),
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    entering.mutate();
  }

  return (
    <>
      <form onSubmit={submit} className={styles.form}>
        {entering.error ? <Problem error={entering.error} /> : null}
        <TextInput label={t`User`} name="username" autoComplete="username" autoFocus required value={username} onChange={(event) => setUsername(event.currentTarget.value)} />
        <PasswordInput
          label={t`Password`}
          name="password"
          autoComplete="current-password"
          required
          value={password}
          onChange={(event) => setPassword(event.currentTarget.value)}
          visibilityToggleButtonProps={{ "aria-label": t`Show the password` }}
        />
        <Button type="submit" loading={entering.isPending}>
          <Trans>Sign in</Trans>
        </Button>
      </form>
      <PasskeyButton enter={enter} />
      <p className={styles.hint}>
        <Trans>
          The owner's first password was printed by <code>install.sh</code>. Locked out? On the gateway's host: <code>sluicegate admin reset</code>
        </Trans>
      </p>
    </>
  );
}

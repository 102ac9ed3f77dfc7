/** The second step: a code of the authenticator app, a passkey, or a recovery code where both are lost. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, TextInput } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import type { SecondStep, Session } from "@/api/model";
import { noPasskeysBecause } from "@/api/passkey";
import { signInByCode } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { PasskeyButton } from "./PasskeyButton";
import styles from "./login.module.css";

interface CodeStepProps {
  step: SecondStep;
  enter: (session: Session) => void;
  back: () => void;
}

export function CodeStep({ step, enter, back }: CodeStepProps) {
  const passkey = step.passkey && noPasskeysBecause() === undefined;
  const [recovering, setRecovering] = useState(!step.code && !passkey);
  const [code, setCode] = useState("");
  const entering = useMutation({ mutationFn: () => signInByCode(step.ticket, code), onSuccess: enter });

  function submit(event: FormEvent): void {
    event.preventDefault();
    entering.mutate();
  }

  function turn(): void {
    setCode("");
    entering.reset();
    setRecovering(!recovering);
  }

  return (
    <>
      {recovering || step.code ? (
        <form onSubmit={submit} className={styles.form}>
          {entering.error ? <Problem error={entering.error} /> : null}
          {recovering ? (
            <TextInput
              key="recovery"
              label={t`Recovery code`}
              description={t`One of those you kept when you set up the second factor; each is good once`}
              autoComplete="off"
              spellCheck={false}
              autoFocus
              required
              value={code}
              onChange={(event) => setCode(event.currentTarget.value)}
            />
          ) : (
            <TextInput
              key="code"
              label={t`Code`}
              description={t`The six digits that your authenticator app shows now`}
              name="code"
              autoComplete="one-time-code"
              inputMode="numeric"
              autoFocus
              required
              value={code}
              onChange={(event) => setCode(event.currentTarget.value)}
            />
          )}
          <Button type="submit" loading={entering.isPending}>
            <Trans>Sign in</Trans>
          </Button>
        </form>
      ) : (
        <p>
          <Trans>The password is right. Your passkey is to follow.</Trans>
        </p>
      )}
      {passkey ? <PasskeyButton enter={enter} filled={!recovering && !step.code} /> : null}
      <div className={styles.ways}>
        {!recovering || step.code || passkey ? (
          <button type="button" className={styles.way} onClick={turn}>
            {recovering ? (step.code ? t`Use the authenticator app` : t`Use a passkey instead`) : t`Use a recovery code`}
          </button>
        ) : null}
        <button type="button" className={styles.way} onClick={back}>
          <Trans>Start over</Trans>
        </button>
      </div>
    </>
  );
}

/** Signing in: by password and, where one has it, a second factor, or by passkey; leads back to where one wanted to go. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQueryClient } from "@tanstack/react-query";
import { useRouter, useSearch } from "@tanstack/react-router";
import { useEffect, useState } from "react";
import type { SecondStep, Session } from "@/api/model";
import { sessionQuery } from "@/api/session";
import { CodeStep } from "./CodeStep";
import { PasswordStep } from "./PasswordStep";
import { ProviderButtons } from "./ProviderButtons";
import styles from "./login.module.css";

export function LoginPage() {
  const [step, setStep] = useState<SecondStep>();
  const { next } = useSearch({ from: "/login" });
  const queries = useQueryClient();
  const router = useRouter();
  useEffect(() => {
    document.title = t`Sign in · Sluicegate`;
  }, []);

  function enter(session: Session): void {
    queries.clear();
    queries.setQueryData(sessionQuery.queryKey, session);
    router.history.push(next ?? "/console/");
  }

  return (
    <main className={styles.login}>
      <div className={styles.card}>
        <img src={`${import.meta.env.BASE_URL}mark.svg`} width={40} height={40} alt="" />
        <div>
          <h1>Sluicegate</h1>
          <p>
            <Trans>Who calls which model, what it costs, and what is left of each limit.</Trans>
          </p>
        </div>
        {step ? <CodeStep step={step} enter={enter} back={() => setStep(undefined)} /> : null}
        {step ? null : (
          <>
            <ProviderButtons />
            <PasswordStep enter={enter} second={setStep} />
          </>
        )}
      </div>
    </main>
  );
}

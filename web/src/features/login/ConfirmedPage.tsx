/** Where a fresh sign-in ends that another tab waits for. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useEffect } from "react";
import styles from "./login.module.css";

export function ConfirmedPage() {
  useEffect(() => {
    document.title = t`Signed in · Sluicegate`;
    window.close(); // browsers that have led the tab elsewhere meanwhile leave it open
  }, []);
  return (
    <main className={styles.login}>
      <div className={styles.card}>
        <div>
          <h1>
            <Trans>You are signed in</Trans>
          </h1>
          <p>
            <Trans>Close this tab: what you wanted goes on in the other one.</Trans>
          </p>
        </div>
      </div>
    </main>
  );
}

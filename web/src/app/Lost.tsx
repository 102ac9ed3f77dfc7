/** Nothing at this address, and what stands in for a page that failed as a whole. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Link, useRouter, type ErrorComponentProps } from "@tanstack/react-router";
import { Empty, Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import styles from "./Lost.module.css";

export function Lost() {
  return (
    <Page title={t`Not found`} line={t`There is nothing at this address.`}>
      <Empty title={t`This page does not exist`} why={t`It may have been renamed, or what it showed was deleted.`} action={<Link to="/"><Trans>Go to the overview</Trans></Link>} />
    </Page>
  );
}

export function Failed({ error }: ErrorComponentProps) {
  const router = useRouter();
  return (
    <Page title={t`The console failed`} line={t`Nothing was lost: the gateway itself is not affected.`}>
      <Problem error={error} again={() => void router.invalidate()} />
    </Page>
  );
}

/** Until it is known who is signed in, where that takes long. */
export function Waiting() {
  return (
    <p className={styles.waiting} role="status">
      <Trans>Waiting for the gateway…</Trans>
    </p>
  );
}

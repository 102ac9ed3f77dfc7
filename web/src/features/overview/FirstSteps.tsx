/** The overview before anything can be called: the one thing to do next. */
import { t } from "@lingui/core/macro";
import { Link, Navigate } from "@tanstack/react-router";
import { useMay } from "@/api/session";
import { wasSkipped } from "@/features/start/skipped";
import { Empty } from "@/ui/Answer";
import styles from "./overview.module.css";

/** `fresh`: there is neither a route nor an app. */
export function FirstSteps({ fresh }: { fresh: boolean }) {
  const may = useMay()("configuration:write");
  // The first visitor of a fresh installation is led through.
  if (fresh && may && !wasSkipped()) return <Navigate to="/start" replace />;
  return (
    <div className={styles.panel}>
      <Empty
        title={t`Nothing has been called yet`}
        why={t`Spend, tokens and latency appear here once a provider, a route and an app exist and the app has called. The demo makes all of it on this machine, with a small real model.`}
        {...(may ? { action: <Link to="/start">{t`Go on with the three first steps`}</Link> } : {})}
        snippet="sluicegate demo"
      />
    </div>
  );
}

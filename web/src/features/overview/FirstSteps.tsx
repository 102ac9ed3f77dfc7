/** The overview before anything has happened: what is configured already, and the one thing to do next. */
import { t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { Link, Navigate } from "@tanstack/react-router";
import { RANGES, type RangeName } from "@/app/range";
import { useMay } from "@/api/session";
import { appsQuery } from "@/features/apps/queries";
import { routesQuery } from "@/features/routes/queries";
import { callOf } from "@/features/routes/snippets";
import { wasSkipped } from "@/features/start/skipped";
import { Empty } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import styles from "./overview.module.css";

export function FirstSteps({ range }: { range: RangeName }) {
  const may = useMay();
  const routes = useQuery(routesQuery).data;
  const apps = useQuery(appsQuery).data;
  const route = routes?.find((each) => each.match === null);
  // A fresh installation: its first visitor is led through.
  if (routes?.length === 0 && apps?.length === 0 && may("configuration:write") && !wasSkipped()) return <Navigate to="/start" replace />;
  const ready = apps && apps.length > 0;
  return (
    <Page title={t`Overview`} line={t`Is everything well, what does it cost, and what needs you.`}>
      <div className={styles.panel}>
        {routes && (!route || !ready) ? (
          <Empty
            title={t`Nothing has been called yet`}
            why={t`Spend, tokens and latency appear here once a provider, a route and an app exist and the app has called. The demo makes all of it on this machine, with a small real model.`}
            {...(may("configuration:write") ? { action: <Link to="/start">{t`Go on with the three first steps`}</Link> } : {})}
            snippet="sluicegate demo"
          />
        ) : (
          <Empty
            title={t`No requests ${RANGES[range].within}`}
            why={t`Everything is in place. Call a route with an app's key, and it shows here within two seconds.`}
            action={<Link to="/apps">{t`Make a key`}</Link>}
            {...(route ? { snippet: callOf("curl", route.name) } : {})}
          />
        )}
      </div>
    </Page>
  );
}

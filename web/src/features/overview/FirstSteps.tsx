/** The overview before anything has happened: what is configured already, and the one thing to do next. */
import { t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { RANGES, type RangeName } from "@/app/range";
import { appsQuery } from "@/features/apps/queries";
import { routesQuery } from "@/features/routes/queries";
import { callOf } from "@/features/routes/snippets";
import { Empty } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import styles from "./overview.module.css";

export function FirstSteps({ range }: { range: RangeName }) {
  const routes = useQuery(routesQuery).data;
  const apps = useQuery(appsQuery).data;
  const route = routes?.find((each) => each.match === null);
  return (
    <Page title={t`Overview`} line={t`Is everything well, what does it cost, and what needs you.`}>
      <div className={styles.panel}>
        {routes && !route ? (
          <Empty
            title={t`Nothing is configured yet`}
            why={t`Spend, tokens and latency appear here once a provider, a route and an app exist and the app has called. The demo makes all of it on this machine, with a small real model.`}
            snippet="sluicegate demo"
          />
        ) : (
          <Empty
            title={t`No requests ${RANGES[range].within}`}
            why={apps && apps.length > 0 ? t`Everything is in place. Call a route with an app's key, and it shows here within two seconds.` : t`A route exists, but no app that may call it: add one, and make a key for it.`}
            action={apps && apps.length > 0 ? <Link to="/apps">{t`Make a key`}</Link> : <Link to="/apps">{t`Add an app`}</Link>}
            {...(route ? { snippet: callOf("curl", route.name) } : {})}
          />
        )}
      </div>
    </Page>
  );
}

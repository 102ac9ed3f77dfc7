/** In the place of the chart, where nobody has called in this range. */
import { t } from "@lingui/core/macro";
import { Link } from "@tanstack/react-router";
import { RANGES, type RangeName } from "@/app/range";
import { callOf } from "@/features/routes/snippets";
import { Empty } from "@/ui/Answer";
import styles from "./overview.module.css";

export function NoRequests({ range, route }: { range: RangeName; route: string }) {
  return (
    <div className={styles.panel}>
      <Empty
        title={t`No requests ${RANGES[range].within}`}
        why={t`Everything is in place. Call a route with an app's key, and it shows here within two seconds.`}
        action={<Link to="/apps">{t`Make a key`}</Link>}
        snippet={callOf("curl", route)}
      />
    </div>
  );
}

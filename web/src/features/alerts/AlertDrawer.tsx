/** One alert: what was done, by whom, and why that is told of. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useInfiniteQuery } from "@tanstack/react-query";
import { useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback } from "react";
import { useRange } from "@/app/range";
import type { Alert } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Unknown, When } from "@/ui/Figure";
import { exact } from "@/units/count";
import { sentence } from "@/units/words";
import styles from "./alerts.module.css";
import { alertFilters } from "./filters";
import { alertsQuery } from "./queries";
import { didWord, kindWord, OutcomeMark, whatOf, whoOf } from "./words";

export function AlertDrawer() {
  const { id } = useParams({ from: "/frame/discoveries/alerts/$id" });
  const filters = alertFilters(useSearch({ from: "/frame/discoveries/alerts" }));
  const navigate = useNavigate();
  const close = useCallback(() => void navigate({ to: "/discoveries/alerts", search: (old) => old }), [navigate]);
  const pages = useInfiniteQuery(alertsQuery(filters, useRange()));
  const found = pages.data?.pages.flatMap((page) => page.items).find((each) => String(each.id) === id);
  return (
    <Drawer title={found ? `${whoOf(found)}: ${didWord(found.kind)}` : t`Alert`} label={t`Alert`} close={close}>
      {found ? (
        <Details alert={found} />
      ) : pages.data ? (
        <p>
          <Trans>It is not among the alerts that are listed: widen the range, take filters away, or scroll on.</Trans>
        </p>
      ) : pages.error ? (
        <Problem error={pages.error} again={() => void pages.refetch()} />
      ) : (
        <Skeleton height={280} />
      )}
    </Drawer>
  );
}

function Details({ alert }: { alert: Alert }) {
  const code = (text: string | number | null, why = t`could not be told`) => (text === null ? <Unknown why={why} /> : <code>{text}</code>);
  return (
    <>
      <div className={styles.outcome}>
        <OutcomeMark alert={alert} />
        <span className={styles.owner}>{sentence(alert.reason)}.</span>
      </div>
      <Part title={kindWord(alert.kind)}>
        <pre className={styles.argv}>{whatOf(alert)}</pre>
      </Part>
      <Part title={t`Who`}>
        <Facts
          facts={[
            [t`Process`, alert.process ?? <Unknown key="p" why={t`could not be told`} />],
            [t`Executable`, code(alert.executable)],
            [t`Process id`, code(alert.pid)],
            ...(alert.parent !== null ? ([[t`Its parent's`, code(alert.parent)]] as const) : []),
            [t`User`, alert.user ?? code(alert.uid)],
            [t`Container`, alert.container ? code(alert.container) : t`none`],
            [t`Cgroup`, code(alert.cgroup)],
          ]}
        />
      </Part>
      <Part title={t`How often`}>
        <Facts
          facts={[
            [t`When`, <span key="w"><When at={alert.at} /> (<Ago at={alert.at} />)</span>],
            [t`Times`, exact(alert.count)],
            [t`Node`, code(alert.node)],
          ]}
        />
      </Part>
    </>
  );
}

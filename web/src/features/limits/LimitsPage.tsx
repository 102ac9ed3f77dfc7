/** What is promised, what is spent of it, and what would be refused now. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Outlet } from "@tanstack/react-router";
import { useAdding } from "@/app/adding";
import { useMay } from "@/api/session";
import { Empty, Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import { LimitForm } from "./LimitForm";
import { LimitRow } from "./LimitRow";
import styles from "./limits.module.css";
import { limitsQuery } from "./queries";

export function LimitsPage() {
  const limits = useQuery(limitsQuery);
  const [making, setMaking] = useAdding();
  const may = useMay();
  const make = may("configuration:write") ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      <Trans>Add a limit</Trans>
    </Button>
  ) : null;
  return (
    <Page title={t`Limits`} line={t`What each limit allows, what is settled and reserved of it, and when it begins anew. Windows are calendar windows in UTC.`} action={make}>
      {limits.error ? <Problem error={limits.error} again={() => void limits.refetch()} /> : null}
      {limits.isPending ? <Skeleton height={180} radius={8} /> : null}
      {limits.data?.length === 0 ? (
        <Empty title={t`No limits`} why={t`Nothing bounds what apps may spend. A limit counts requests, tokens, cost or requests at once, for everyone or for a team, app, key, route, provider, credential, target or model.`} action={make} snippet={example} />
      ) : null}
      {limits.data && limits.data.length > 0 ? (
        <>
          <div className={styles.legend}>
            <span>
              <i className={styles.settled} />
              <Trans>settled: what answers have used</Trans>
            </span>
            <span>
              <i className={styles.reserved} />
              <Trans>reserved: what requests in flight may still use</Trans>
            </span>
          </div>
          <ul className={styles.limits} aria-label={t`Limits`}>
            {limits.data.map((limit) => (
              <LimitRow key={limit.id} limit={limit} linked />
            ))}
          </ul>
        </>
      ) : null}
      {making && make ? <LimitForm close={() => setMaking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
limits:
  - {name: month-budget, scope: {team: search}, metric: cost_usd, window: month, at_most: 50}`;

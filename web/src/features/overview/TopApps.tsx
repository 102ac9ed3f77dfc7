/** Who spends it. */
import { t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { RangeName } from "@/app/range";
import type { UsageItem } from "@/api/model";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count } from "@/ui/Figure";
import { Section } from "@/ui/Page";
import { share } from "@/units/count";
import styles from "./overview.module.css";
import { usageQuery } from "./queries";
import { Spend } from "./Spend";
import { sumOf } from "./sums";

const SHOWN = 8;

export function TopApps({ range }: { range: RangeName }) {
  const usage = useQuery(usageQuery("team,app", range));
  const total = usage.data ? sumOf(usage.data).costMicros : 0;
  const top = useMemo(() => [...(usage.data ?? [])].sort((a, b) => b.cost_usd_micros - a.cost_usd_micros || b.requests - a.requests).slice(0, SHOWN), [usage.data]);
  const columns: readonly Column<UsageItem>[] = [
    {
      id: "app",
      header: t`App`,
      cell: (item) => (
        <Link to="/apps/$name" params={{ name: item.app ?? "" }}>
          {item.app}
        </Link>
      ),
    },
    { id: "team", header: t`Team`, hide: "phone", cell: (item) => item.team },
    { id: "requests", header: t`Requests`, number: true, cell: (item) => <Count n={item.requests} unit={t`requests`} /> },
    { id: "errors", header: t`Errors`, number: true, hide: "phone", cell: (item) => share(item.requests === 0 ? 0 : item.errors / item.requests) },
    { id: "tokens", header: t`Tokens`, number: true, hide: "phone", cell: (item) => <Count n={item.input_tokens + item.output_tokens} unit={t`tokens`} /> },
    { id: "spend", header: t`Spend`, number: true, cell: (item) => <Spend of={item} why="" /> },
    { id: "share", header: t`Of all`, number: true, cell: (item) => (total === 0 ? "—" : share(item.cost_usd_micros / total)) },
  ];
  return (
    <Section title={t`Apps by spend`} aside={<Link to="/apps">{t`All apps`}</Link>}>
      <DataTable
        label={t`Apps by spend`}
        columns={columns}
        rows={usage.data && top}
        rowId={(item) => `${item.team}/${item.app}`}
        error={usage.error}
        again={() => void usage.refetch()}
        empty={<p className={styles.quiet}>{t`No app made a request in this range.`}</p>}
      />
    </Section>
  );
}

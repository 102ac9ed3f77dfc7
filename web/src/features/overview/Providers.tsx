/** How each provider fared in this range: all requests, all first tokens. */
import { t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import type { RangeName } from "@/app/range";
import type { FirstTokenItem, Need, UsageItem } from "@/api/model";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Latency } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Section } from "@/ui/Page";
import { share } from "@/units/count";
import { latency } from "@/units/time";
import styles from "./overview.module.css";
import { firstTokensQuery, usageQuery } from "./queries";

interface ProviderRow {
  name: string;
  requests: number;
  failed: number;
  first: FirstTokenItem | undefined;
  before: FirstTokenItem | undefined;
  trouble: string | undefined;
}

const columns = (whyNoTimes: string): readonly Column<ProviderRow>[] => [
  { id: "provider", header: t`Provider`, cell: (row) => <Link to="/providers/$name" params={{ name: row.name }}>{row.name}</Link> },
  { id: "state", header: t`State`, cell: (row) => <StateMark row={row} /> },
  { id: "requests", header: t`Requests`, number: true, cell: (row) => <Count n={row.requests} unit={t`requests`} /> },
  { id: "failed", header: t`Failed`, number: true, hide: "phone", cell: (row) => share(row.failed / row.requests) },
  {
    id: "ttft",
    header: t`First token, p95`,
    number: true,
    cell: (row) => (
      <span title={row.before ? t`${latency(row.before.p95)} in as much time before` : t`no answers in as much time before`}>
        <Latency ms={row.first?.p95} why={whyNoTimes} />
        {row.first && row.before && row.first.p95 > row.before.p95 * SLOWER ? " ▲" : row.first && row.before && row.first.p95 * SLOWER < row.before.p95 ? " ▼" : ""}
      </span>
    ),
  },
];

const SLOWER = 1.25;

interface ProvidersProps {
  range: RangeName;
  needs: readonly Need[];
}

export function Providers({ range, needs }: ProvidersProps) {
  const usage = useQuery(usageQuery("provider", range));
  const first = useQuery(firstTokensQuery("provider", range));
  const before = useQuery(firstTokensQuery("provider", range, 1));
  const rows = useMemo(() => usage.data && rowsOf(usage.data, first.data ?? [], before.data ?? [], needs), [usage.data, first.data, before.data, needs]);
  const whyNoTimes = first.data ? t`no first token in this range` : (first.error?.message ?? t`loading`);
  return (
    <Section title={t`Providers`} aside={<Link to="/providers">{t`All providers`}</Link>}>
      {rows === undefined && !usage.error ? (
        <Skeleton height={160} radius={8} />
      ) : (
        <DataTable
          label={t`Providers`}
          columns={columns(whyNoTimes)}
          rows={rows}
          rowId={(row) => row.name}
          error={usage.error}
          again={() => void usage.refetch()}
          empty={<p className={styles.quiet}>{t`No request went to a provider in this range.`}</p>}
        />
      )}
    </Section>
  );
}

function rowsOf(usage: readonly UsageItem[], first: readonly FirstTokenItem[], before: readonly FirstTokenItem[], needs: readonly Need[]): ProviderRow[] {
  const of = (items: readonly FirstTokenItem[], name: string): FirstTokenItem | undefined => items.find((item) => item.provider === name);
  return usage
    .flatMap((item): ProviderRow[] => {
      const name = item.provider;
      if (!name) return [];
      const need = needs.find((each) => ["provider", "credential", "target"].includes(each.need) && each.subject?.split("/")[0] === name);
      return [{ name, requests: item.requests, failed: item.errors, first: of(first, name), before: of(before, name), trouble: need?.need }];
    })
    .sort((a, b) => b.requests - a.requests);
}

function StateMark({ row: { failed, requests, trouble } }: { row: ProviderRow }) {
  if (trouble === "provider") return <Mark tone="bad">{t`Unhealthy`}</Mark>;
  if (trouble === "credential") return <Mark tone="bad">{t`Credential set aside`}</Mark>;
  if (trouble === "target") return <Mark tone="bad">{t`A target cools down`}</Mark>;
  const part = failed / requests;
  if (part >= 0.1) return <Mark tone="bad">{t`${share(part)} failed`}</Mark>;
  if (part >= 0.01) return <Mark tone="warn">{t`${share(part)} failed`}</Mark>;
  return <Mark tone="ok">{t`Answering`}</Mark>;
}

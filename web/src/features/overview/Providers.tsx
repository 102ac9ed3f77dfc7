/** How each provider has fared of late. */
import { t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import { useMemo } from "react";
import type { LedgerRow } from "@/api/model";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, Latency } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Section } from "@/ui/Page";
import { exact, share } from "@/units/count";
import styles from "./overview.module.css";
import { providerStates, type ProviderState } from "./sums";

const COLUMNS: readonly Column<ProviderState>[] = [
  { id: "provider", header: t`Provider`, cell: (state) => state.provider },
  { id: "state", header: t`State`, cell: (state) => <StateMark state={state} /> },
  { id: "requests", header: t`Requests`, number: true, cell: (state) => exact(state.requests) },
  { id: "ttft", header: t`First token, p95`, number: true, hide: "phone", cell: (state) => <Latency ms={state.ttftP95} why={t`no first token among these`} /> },
  { id: "newest", header: t`Newest`, number: true, cell: (state) => <Ago at={state.newest} /> },
];

export function Providers({ rows, sample }: { rows: readonly LedgerRow[] | undefined; sample: number }) {
  const states = useMemo(() => rows && providerStates(rows), [rows]);
  return (
    <Section title={t`Providers`} aside={t`by the newest ${sample} requests`}>
      {states === undefined ? (
        <Skeleton height={160} radius={8} />
      ) : (
        <DataTable
          label={t`Providers`}
          columns={COLUMNS}
          rows={states}
          rowId={(state) => state.provider}
          empty={<p className={styles.quiet}>{t`No request went to a provider in this range.`}</p>}
        />
      )}
    </Section>
  );
}

function StateMark({ state: { failed, requests } }: { state: ProviderState }) {
  if (failed === 0) return <Mark tone="ok">{t`Answering`}</Mark>;
  const part = failed / requests;
  return <Mark tone={part >= 0.5 ? "bad" : "warn"}>{t`${share(part)} failed`}</Mark>;
}

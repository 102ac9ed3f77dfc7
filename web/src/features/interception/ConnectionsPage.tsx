/** Captured connections that have ended: what became of each, and of how many bytes. */
import { t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { useSearch } from "@tanstack/react-router";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago } from "@/ui/Figure";
import { FilterBar, type Choice } from "@/ui/FilterBar";
import { Mark } from "@/ui/Mark";
import { Page } from "@/ui/Page";
import { bytes, exact } from "@/units/count";
import { span } from "@/units/time";
import { plain, sentence } from "@/units/words";
import styles from "./interception.module.css";
import { endedFlowsQuery, rulesQuery, type EndedFlow } from "./queries";
import { Tabs } from "./Tabs";

const MOST = 500;

const whose = (flow: EndedFlow): string => [flow.process ?? flow.client, flow.user, flow.container && t`in ${flow.container}`].filter(Boolean).join(" ");

const COLUMNS: readonly Column<EndedFlow>[] = [
  { id: "at", header: t`Began`, cell: (flow) => <Ago at={flow.started_at} /> },
  { id: "rule", header: t`Rule`, hide: "phone", cell: (flow) => flow.rule },
  { id: "who", header: t`Of`, cell: (flow) => <span className={styles.cut} title={`${whose(flow)} (${flow.client})`}>{whose(flow)}</span> },
  { id: "to", header: t`To`, cell: (flow) => <code className={styles.cut} title={`${flow.destination}:${flow.port}${flow.encrypted_hello ? `, ${t`the name may be a cover (ECH)`}` : ""}`}>{flow.server_name ?? flow.destination}</code> },
  { id: "protocol", header: t`Protocol`, hide: "tablet", cell: (flow) => (flow.terminated ? t`${flow.protocol}, TLS ended here` : flow.protocol) },
  { id: "outcome", header: t`What became of it`, cell: (flow) => <Mark tone={flow.outcome === "denied" || flow.outcome === "failed" ? "warn" : "idle"}>{flow.outcome}</Mark> },
  { id: "bytes", header: t`Bytes`, number: true, hide: "phone", cell: (flow) => <span title={t`${exact(flow.bytes_in)} from the client, ${exact(flow.bytes_out)} to it; requests that routes served are in the ledger`}>{bytes(flow.bytes_in + flow.bytes_out)}</span> },
  { id: "took", header: t`Lasted`, number: true, hide: "tablet", cell: (flow) => span(flow.seconds) },
];

export function ConnectionsPage() {
  const { rule } = useSearch({ from: "/frame/interception/connections" });
  const flows = useQuery(endedFlowsQuery(rule ?? null, MOST));
  const reason = flows.data?.reason ?? null;
  return (
    <Page title={t`Interception`} line={t`Captured connections that have ended, as many as the agent remembers. What routes served is in Traffic, request by request.`} fill>
      <Tabs here="/interception/connections" />
      {rule !== undefined || (flows.data?.items.length ?? 0) > 0 ? <FilterBar labels={{ rule: t`Rule` }} filters={{ rule }} useChoices={useRules} placeholder={() => ""} deed={t`Show its connections`} /> : null}
      <DataTable
        label={t`Connections`}
        columns={COLUMNS}
        rows={flows.data?.items}
        rowId={(flow) => `${flow.started_at} ${flow.client} ${flow.destination} ${flow.seconds}`}
        error={flows.error}
        again={() => void flows.refetch()}
        dense
        fill
        empty={
          reason !== null ? (
            <Empty title={t`Nothing is known of connections`} why={t`The agent remembers them, and it is not here: ${sentence(plain(reason))}.`} snippet="sudo sluicegate service start --agent" />
          ) : (
            <Empty title={t`No captured connection has ended`} why={t`Those that rules capture show here once they end: which process, where to, and what became of them.`} />
          )
        }
      />
    </Page>
  );
}

function useRules(): readonly Choice[] | undefined {
  return useQuery(rulesQuery).data?.map((rule) => ({ value: rule.name, label: rule.name }));
}

/** What the gateway's own and watched processes did that they should not: the newest first, as it happens. */
import { t } from "@lingui/core/macro";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { RANGES, useRange } from "@/app/range";
import type { Alert } from "@/api/model";
import { Tabs } from "@/features/discoveries/Tabs";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, When } from "@/ui/Figure";
import { FilterBar, type Choice } from "@/ui/FilterBar";
import { Page } from "@/ui/Page";
import { usePaged } from "@/ui/usePaged";
import styles from "./alerts.module.css";
import { alertFilters, FILTER_LABELS, type FilterName } from "./filters";
import { alertsQuery } from "./queries";
import { didWord, KINDS, OutcomeMark, whatOf, whoOf } from "./words";

const COLUMNS: readonly Column<Alert>[] = [
  {
    id: "at",
    header: t`Time`,
    width: "96px",
    cell: (alert) => (
      <Link to="/discoveries/alerts/$id" params={{ id: String(alert.id) }} search={(old) => old} className={styles.time}>
        <When at={alert.at} />
      </Link>
    ),
  },
  {
    id: "who",
    header: t`Who`,
    hide: "phone",
    cell: (alert) => (
      <>
        {whoOf(alert)} <span className={styles.owner}>{[alert.user, alert.container && t`in ${alert.container}`].filter(Boolean).join(" ")}</span>
      </>
    ),
  },
  { id: "kind", header: t`Did`, hide: "tablet", cell: (alert) => didWord(alert.kind) },
  { id: "what", header: t`What`, cell: (alert) => <code title={whatOf(alert)}>{whatOf(alert)}</code> },
  { id: "count", header: t`Times`, number: true, hide: "phone", cell: (alert) => <Count n={alert.count} unit={t`times`} /> },
  { id: "outcome", header: t`Outcome`, cell: (alert) => <OutcomeMark alert={alert} /> },
];

export function AlertsPage() {
  const search = useSearch({ from: "/frame/discoveries/alerts" });
  const filters = useMemo(() => alertFilters(search), [search]);
  const range = useRange();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.id });
  const paged = usePaged(useInfiniteQuery(alertsQuery(filters, range)));
  const open = useCallback((alert: Alert) => void navigate({ to: "/discoveries/alerts/$id", params: { id: String(alert.id) }, search: (old) => old }), [navigate]);
  const filtered = Object.keys(filters).length > 0;
  return (
    <Page title={t`Alerts`} line={t`What the gateway's own and watched processes did that they should not.`} fill>
      <Tabs here="/discoveries/alerts" />
      <FilterBar labels={FILTER_LABELS} filters={filters} useChoices={choicesOf} word={wordOf} placeholder={(name) => (name === "container" ? "4f2a81c09d3e" : name === "user" ? "www-data" : "python3")} deed={t`Show these alerts`} />
      <DataTable
        label={t`Alerts`}
        columns={COLUMNS}
        {...paged}
        rowId={(alert) => String(alert.id)}
        open={open}
        openId={openId}
        fill
        empty={
          filtered ? (
            <Empty title={t`No alert fits these filters`} why={t`Nothing matches all of them ${RANGES[range].within}. Take one away, or widen the range.`} />
          ) : (
            <Empty
              title={t`No alert in this range`}
              why={t`A program that the gateway's processes execute shows here, and what processes of the setting “watched” execute or connect to beyond the configuration. It takes the agent's probes; this says whether they work:`}
              snippet="sluicegate doctor"
            />
          )
        }
      />
      <Outlet />
    </Page>
  );
}

const YES_NO: readonly Choice[] = [
  { value: "true", label: t`Yes` },
  { value: "false", label: t`No` },
];

const choicesOf = (name: FilterName): readonly Choice[] | undefined => (name === "kind" ? KINDS : name === "refused" ? YES_NO : undefined);
const wordOf = (name: FilterName, value: string): string => choicesOf(name)?.find((choice) => choice.value === value)?.label ?? value;

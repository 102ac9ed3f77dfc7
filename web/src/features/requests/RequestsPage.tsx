/** Every request that an app has made: filters that compose, newest first, live or by pages. */
import { t } from "@lingui/core/macro";
import { Button, Switch } from "@mantine/core";
import { IconPlayerPause, IconPlayerPlay } from "@tabler/icons-react";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { useRange, RANGES } from "@/app/range";
import type { LedgerRow } from "@/api/model";
import { useFeed } from "@/api/live";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Latency, Money, Unknown, When } from "@/ui/Figure";
import { FilterBar } from "@/ui/FilterBar";
import { Page } from "@/ui/Page";
import { useChoices } from "./choices";
import { FILTER_LABELS, filterWord, filtersOnly, PLACEHOLDERS } from "./filters";
import { OutcomeMark, outcomeWord } from "./outcome";
import { ledgerQuery, newestQuery } from "./queries";
import styles from "./requests.module.css";

const LIVE_ROWS = 200;

const COLUMNS: readonly Column<LedgerRow>[] = [
  {
    id: "started",
    header: t`Time`,
    width: "96px",
    cell: (row) => (
      <Link to="/requests/$id" params={{ id: row.id }} search={(old) => old} className={styles.time}>
        <When at={row.started_at} />
      </Link>
    ),
  },
  { id: "app", header: t`App`, cell: (row) => (row.process ? <span title={[row.process, row.user, row.container].filter(Boolean).join(", ")}>{row.app}</span> : row.app) },
  { id: "route", header: t`Route`, hide: "phone", cell: (row) => (row.route ? <code>{row.route}</code> : <Unknown why={t`no route fitted`} />) },
  { id: "target", header: t`Target`, hide: "tablet", cell: (row) => (row.target ? <code>{row.target}</code> : <Unknown why={t`nothing went upstream`} />) },
  { id: "outcome", header: t`Outcome`, cell: (row) => <OutcomeMark row={row} /> },
  { id: "input", header: t`Tokens in`, number: true, hide: "tablet", cell: (row) => <Count n={row.input_tokens} unit={t`tokens`} estimated={row.estimated} why={tokensWhy(row)} /> },
  { id: "output", header: t`Tokens out`, number: true, hide: "phone", cell: (row) => <Count n={row.output_tokens} unit={t`tokens`} estimated={row.estimated} why={tokensWhy(row)} /> },
  { id: "cost", header: t`Cost`, number: true, cell: (row) => <Money micros={row.cost_usd_micros} estimated={row.estimated} why={costWhy(row)} /> },
  { id: "ttft", header: t`First token`, number: true, hide: "tablet", cell: (row) => <Latency ms={row.ttft_ms} why={t`no first token`} /> },
  { id: "latency", header: t`Latency`, number: true, hide: "phone", cell: (row) => <Latency ms={row.latency_ms} why={t`not ended`} /> },
];

export const tokensWhy = (row: LedgerRow): string => (row.target === null ? t`nothing went upstream` : t`the provider reported none`);
export const costWhy = (row: LedgerRow): string => (row.target === null ? t`nothing went upstream` : t`no price is known for this model`);

export function RequestsPage() {
  const search = useSearch({ from: "/frame/requests" });
  const range = useRange();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.id });
  const filters = useMemo(() => filtersOnly(search), [search]);
  const live = search.live === true;
  const feed = useFeed();

  const pages = useInfiniteQuery({ ...ledgerQuery(filters, range), enabled: !live });
  // A live list that is held keeps still what somebody is reading; going on shows all that came meanwhile.
  const [held, setHeld] = useState(false);
  const newest = useQuery({ ...newestQuery(filters, range, LIVE_ROWS, true), enabled: live && !held });
  const rows = useMemo(() => (live ? newest.data?.items : pages.data?.pages.flatMap((page) => page.items)), [live, newest.data, pages.data]);
  const { fetchNextPage } = pages;
  const more = useCallback(() => void fetchNextPage(), [fetchNextPage]);
  const open = useCallback((row: LedgerRow) => void navigate({ to: "/requests/$id", params: { id: row.id }, search: (old) => old }), [navigate]);
  const filtered = Object.keys(filters).length > 0;

  return (
    <Page
      title={t`Traffic`}
      line={t`What each app asked for, where it went, what it cost and what became of it.`}
      fill
      action={
        <>
          {live ? (
            <Button size="compact-sm" variant="default" leftSection={held ? <IconPlayerPlay size={14} /> : <IconPlayerPause size={14} />} onClick={() => setHeld(!held)}>
              {held ? t`Go on` : t`Hold`}
            </Button>
          ) : null}
          <Switch
            label={live ? (held ? t`Held` : feed.state === "cut" ? t`Live, but the feed is cut` : t`Live: newest ${LIVE_ROWS}`) : t`Live`}
            checked={live}
            onChange={({ currentTarget }) => {
              setHeld(false);
              void navigate({ to: ".", search: (old) => ({ ...old, live: currentTarget.checked ? true : undefined }), replace: true });
            }}
          />
        </>
      }
    >
      <FilterBar
        labels={FILTER_LABELS}
        filters={filters}
        useChoices={useChoices}
        word={(name, value) => (name === "outcome" ? outcomeWord(value) : filterWord(name, value))}
        placeholder={(name) => PLACEHOLDERS[name] ?? ""}
        deed={t`Show these requests`}
      />
      <DataTable
        label={t`Requests`}
        columns={COLUMNS}
        rows={rows}
        rowId={(row) => row.id}
        error={live ? newest.error : pages.error}
        again={() => void (live ? newest : pages).refetch()}
        open={open}
        openId={openId}
        more={!live && pages.hasNextPage ? more : undefined}
        loadingMore={pages.isFetchingNextPage}
        fill
        empty={
          filtered ? (
            <Empty title={t`No request fits these filters`} why={t`Nothing matches all of them ${RANGES[range].within}. Take one away, or widen the range.`} />
          ) : (
            <Empty
              title={t`No requests yet`}
              why={t`Each call that an app makes with its key appears here within two seconds. None was made in this range.`}
              snippet={firstCall}
            />
          )
        }
      />
      <Outlet />
    </Page>
  );
}

const firstCall = `curl ${window.location.origin}/v1/chat/completions \\
  -H "Authorization: Bearer $SLUICEGATE_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "ROUTE", "messages": [{"role": "user", "content": "Hello"}]}'`;

import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { api, unwrap } from "@/api/client";
import type { LedgerRow, Outcome } from "@/api/model";
import type { Filters } from "./filters";

const PAGE = 100;

/** The filters as the API takes them. A figure that is none finds nothing, as one would expect of it. */
function wanted({ status, outcome, latency, cost, id, ...names }: Filters) {
  return {
    ...Object.fromEntries(Object.entries(names).filter(([, value]) => value !== undefined)),
    ...(status === undefined ? {} : /^[1-5]xx$/i.test(status) ? { status_class: Number(status[0]) } : { status: Number(status) || 0 }),
    ...(outcome === undefined ? {} : { outcome: outcome as Outcome }),
    ...(latency === undefined ? {} : { min_latency_ms: figure(latency) }),
    ...(cost === undefined ? {} : { min_cost_usd_micros: Math.round(Math.min(figure(cost), MOST_USD) * 1e6) }),
    ...(id === undefined ? {} : { id_prefix: /^[0-9a-f]{1,32}$/i.test(id) ? id.toLowerCase() : "f".repeat(32) }),
  };
}

const MOST_USD = 1e12;
const figure = (text: string): number => {
  const value = Number(text.replace(",", "."));
  return Number.isFinite(value) && value >= 0 ? value : Number.MAX_SAFE_INTEGER;
};

/** The ledger, newest first, by pages. The range's beginning is fixed when the first page is asked for. */
export const ledgerQuery = (filters: Filters, range: RangeName) =>
  infiniteQueryOptions({
    queryKey: ["ledger-pages", filters, range],
    queryFn: ({ pageParam: { from, cursor } }) =>
      unwrap(api.GET("/api/v1/ledger", { params: { query: { ...wanted(filters), from, limit: PAGE, cursor } } })),
    refetchOnWindowFocus: false, // it would ask for every page again
    initialPageParam: { from: spanOf(range, Date.now()).from, cursor: null as string | null },
    getNextPageParam: (page, _pages, { from }) => (page.next_cursor === null ? undefined : { from, cursor: page.next_cursor }),
  });

/** The newest rows only, again with each event of the live feed. `open`: requests in flight too. */
export const newestQuery = (filters: Filters, range: RangeName, limit: number, open = false) =>
  queryOptions({
    queryKey: ["ledger", "newest", filters, range, limit, open],
    queryFn: () => unwrap(api.GET("/api/v1/ledger", { params: { query: { ...wanted(filters), from: spanOf(range, Date.now()).from, limit, open } } })),
  });

export const requestQuery = (id: string) =>
  queryOptions({
    queryKey: ["request", id],
    queryFn: () => unwrap(api.GET("/api/v1/ledger/{id}", { params: { path: { id } } })),
  });

/** How long single seconds are kept in the keeper's memory; minutes stay in SQL. */
const SECONDS_KEPT_MS = 55 * 60_000;

/** What the kernel measured of the request's route and target while it ran. */
export const kernelMeanwhile = (row: LedgerRow) =>
  queryOptions({
    queryKey: ["kernel-meanwhile", row.id],
    queryFn: () => {
      const begin = Date.parse(row.started_at);
      const end = begin + (row.latency_ms ?? 0);
      const step = Date.now() - begin < SECONDS_KEPT_MS ? "1s" : "1m";
      const stepMs = step === "1s" ? 1000 : 60_000;
      const from = new Date(begin - stepMs).toISOString();
      const to = new Date(end + stepMs).toISOString();
      return unwrap(api.GET("/api/v1/telemetry/series", { params: { query: { step, from, to, route: row.route, target: row.target } } }));
    },
    staleTime: Infinity,
    retry: false,
  });

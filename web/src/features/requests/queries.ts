import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { api, unwrap } from "@/api/client";
import type { Outcome } from "@/api/model";
import type { Filters } from "./filters";

const PAGE = 100;

/** The filters as the API takes them. A status that is no number finds nothing, as one would expect of it. */
function wanted({ status, outcome, ...names }: Filters) {
  return {
    ...Object.fromEntries(Object.entries(names).filter(([, value]) => value !== undefined)),
    ...(status === undefined ? {} : { status: Number(status) || 0 }),
    ...(outcome === undefined ? {} : { outcome: outcome as Outcome }),
  };
}

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

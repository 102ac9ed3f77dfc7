import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { read, type Listed } from "@/api/interim";
import type { LedgerRow } from "@/api/model";
import type { Filters } from "./filters";

const PAGE = 100;

/** The ledger, newest first, by pages. The range's beginning is fixed when the first page is asked for. */
export const ledgerQuery = (filters: Filters, range: RangeName) =>
  infiniteQueryOptions({
    queryKey: ["ledger-pages", filters, range],
    queryFn: ({ pageParam }) =>
      read<Listed<LedgerRow>>("/api/v1/ledger", {
        ...filters,
        from: pageParam.from,
        limit: PAGE,
        cursor: pageParam.cursor,
      }),
    initialPageParam: { from: spanOf(range, Date.now()).from, cursor: undefined as string | undefined },
    getNextPageParam: (page, _pages, { from }) => (page.next_cursor ? { from, cursor: page.next_cursor } : undefined),
  });

/** The newest rows only, again with each event of the live feed. */
export const newestQuery = (filters: Filters, range: RangeName, limit: number) =>
  queryOptions({
    queryKey: ["ledger", "newest", filters, range, limit],
    queryFn: () => read<Listed<LedgerRow>>("/api/v1/ledger", { ...filters, from: spanOf(range, Date.now()).from, limit }),
  });

export const requestQuery = (id: string) =>
  queryOptions({ queryKey: ["request", id], queryFn: () => read<LedgerRow>(`/api/v1/ledger/${encodeURIComponent(id)}`) });

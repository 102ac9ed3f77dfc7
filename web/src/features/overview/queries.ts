import { queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { api, everyPage, unwrap } from "@/api/client";

/** Sums of the ledger by `groupBy` (a comma list), over the range or over the one `shift` ranges before it. */
export const usageQuery = (groupBy: string, range: RangeName, shift = 0) =>
  queryOptions({
    queryKey: ["usage", groupBy, range, shift],
    queryFn: () => {
      const span = spanOf(range, Date.now(), shift);
      return everyPage((cursor) => api.GET("/api/v1/usage", { params: { query: { group_by: groupBy, limit: 1000, cursor: cursor ?? null, ...span } } }));
    },
    refetchInterval: 60_000,
  });

/** The newest rows, from which percentiles and provider states are told. As stale as the sums, not as the live list. */
export const sampleQuery = (range: RangeName, limit: number) =>
  queryOptions({
    queryKey: ["usage", "sample", range, limit],
    queryFn: () => unwrap(api.GET("/api/v1/ledger", { params: { query: { from: spanOf(range, Date.now()).from, limit } } })),
  });

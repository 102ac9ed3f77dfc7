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

/** Percentiles of the times to the first token, of all answers. */
export const firstTokensQuery = (groupBy: string, range: RangeName, shift = 0) =>
  queryOptions({
    queryKey: ["usage", "first-tokens", groupBy, range, shift],
    queryFn: async () => (await unwrap(api.GET("/api/v1/first-tokens", { params: { query: { group_by: groupBy, ...spanOf(range, Date.now(), shift) } } }))).items,
    refetchInterval: 60_000,
  });

/** What needs somebody, the fullest limits, what stands at the gate. */
export const overviewQuery = queryOptions({
  queryKey: ["usage", "overview"],
  queryFn: () => unwrap(api.GET("/api/v1/overview", { params: { query: { limits: 5 } } })),
  refetchInterval: 15_000,
});

import { infiniteQueryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { api, unwrap } from "@/api/client";
import type { Filters } from "./filters";

const PAGE = 100;
type Kind = "exec" | "connect";

function wanted({ kind, refused, ...names }: Filters) {
  return {
    ...Object.fromEntries(Object.entries(names).filter(([, value]) => value !== undefined)),
    ...(kind === "exec" || kind === "connect" ? { kind: kind as Kind } : {}),
    ...(refused === undefined ? {} : { refused: refused === "true" }),
  };
}

/** Alerts of the range, the newest first, by pages; each event brings them anew. */
export const alertsQuery = (filters: Filters, range: RangeName) =>
  infiniteQueryOptions({
    queryKey: ["alerts", filters, range],
    queryFn: ({ pageParam }) =>
      unwrap(api.GET("/api/v1/alerts", { params: { query: { ...wanted(filters), since: spanOf(range, Date.now()).from, limit: PAGE, cursor: pageParam } } })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });

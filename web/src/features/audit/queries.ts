import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { api, patient, unwrap } from "@/api/client";
import type { FilterName, Filters } from "./filters";

const PAGE = 100;

type Wanted = { [Name in FilterName]?: string } & { from: string };

/** What is asked for: filters that are set, and the range. */
const wanted = (filters: Filters, range: RangeName): Wanted => ({
  ...Object.fromEntries(Object.entries(filters).filter(([, value]) => value !== undefined)),
  from: spanOf(range, Date.now()).from,
});

/** Entries of the range, the newest first, by pages. */
export const auditQuery = (filters: Filters, range: RangeName) =>
  infiniteQueryOptions({
    queryKey: ["audit", filters, range],
    queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/audit", { params: { query: { ...wanted(filters, range), limit: PAGE, cursor: pageParam } } })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });

/** One entry, wherever it is: also one that filters or range leave out. */
export const entryQuery = (seq: number) =>
  queryOptions({
    queryKey: ["audit", "entry", seq],
    queryFn: async () => (await unwrap(api.GET("/api/v1/audit", { params: { query: { limit: 1, cursor: String(seq + 1) } } }))).items.find((each) => each.seq === seq) ?? null,
    staleTime: Infinity, // an entry never changes
  });

export const verifyAudit = () => unwrap(api.GET("/api/v1/audit/verify", { params: { query: {} }, fetch: patient }));

/** Where the browser loads the entries that are shown, as JSON lines. */
export const exportUrl = (filters: Filters, range: RangeName): string => `/api/v1/audit/export?${new URLSearchParams(wanted(filters, range)).toString()}`;

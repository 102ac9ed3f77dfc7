import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { Decision, DiscoveryState } from "@/api/model";
import type { Filters } from "./filters";
import { isState } from "./words";

const PAGE = 100;
/** Counts and times move without an event: as many pages as this are asked for again by themselves. */
const FRESH_PAGES = 2;
const FRESH_MS = 4000;

function wanted({ state, ...names }: Filters) {
  return {
    ...Object.fromEntries(Object.entries(names).filter(([, value]) => value !== undefined)),
    ...(state !== undefined && isState(state) ? { state: state as DiscoveryState } : {}),
  };
}

/** Findings, what was found last first, by pages. */
export const discoveriesQuery = (filters: Filters) =>
  infiniteQueryOptions({
    queryKey: ["discoveries", "pages", filters],
    queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/discoveries", { params: { query: { ...wanted(filters), limit: PAGE, cursor: pageParam } } })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
    refetchInterval: (query) => ((query.state.data?.pages.length ?? 0) <= FRESH_PAGES ? FRESH_MS : false),
  });

export const discoveryQuery = (id: number) =>
  queryOptions({
    queryKey: ["discoveries", "one", id],
    queryFn: () => unwrap(api.GET("/api/v1/discoveries/{id}", { params: { path: { id } } })),
    refetchInterval: 2000, // whether it is in force comes from the kernel, without an event
  });

/** Whose calls are read within TLS; who runs is told by no event. */
export const coverageQuery = queryOptions({
  queryKey: ["discoveries", "coverage"],
  queryFn: () => unwrap(api.GET("/api/v1/discoveries/coverage")),
  refetchInterval: 2000,
});

export const decide = (id: number, decision: Decision) => unwrap(api.POST("/api/v1/discoveries/{id}/action", { params: { path: { id } }, body: decision }));

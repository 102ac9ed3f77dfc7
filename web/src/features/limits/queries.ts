import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Wanted = components["schemas"]["LimitDocument"];

export const limitsQuery = queryOptions({
  queryKey: ["limits"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/limits", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

/** How full a limit is. Its counters move with each request: the live feed makes it stale. */
export const limitStateQuery = (name: string) =>
  queryOptions({
    queryKey: ["limit-state", name],
    queryFn: () => unwrap(api.GET("/api/v1/limits/{ref}/state", { params: { path: { ref: name } } })),
    refetchInterval: 10_000,
  });

export const makeLimit = (limit: Wanted) => unwrap(api.POST("/api/v1/limits", { body: limit }));

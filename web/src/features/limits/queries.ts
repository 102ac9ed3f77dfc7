import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Wanted = components["schemas"]["LimitDocument"];
type Patch = components["schemas"]["LimitPatch"];

export const limitsQuery = queryOptions({
  queryKey: ["limits"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/limits", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const limitQuery = (name: string) =>
  queryOptions({ queryKey: ["limits", name], queryFn: () => unwrap(api.GET("/api/v1/limits/{ref}", { params: { path: { ref: name } } })) });

/** How full a limit is. Its counters move with each request: the live feed makes it stale. */
export const limitStateQuery = (id: number) =>
  queryOptions({
    queryKey: ["limit-state", id], // whatever its name is by then
    queryFn: () => unwrap(api.GET("/api/v1/limits/{ref}/state", { params: { path: { ref: String(id) } } })),
    refetchInterval: 10_000,
  });

export const makeLimit = (limit: Wanted) => unwrap(api.POST("/api/v1/limits", { body: limit }));

/** `version`: the one that was seen; 412 where it is another by now. */
export const changeLimit = (name: string, version: number, patch: Patch) =>
  unwrap(api.PATCH("/api/v1/limits/{ref}", { params: { path: { ref: name }, header: { "if-match": `"${version}"` } }, body: patch }));
export const removeLimit = (name: string) => unwrap(api.DELETE("/api/v1/limits/{ref}", { params: { path: { ref: name } } }));

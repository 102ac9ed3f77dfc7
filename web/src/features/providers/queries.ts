import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Wanted = components["schemas"]["ProviderDocument"];

export const providersQuery = queryOptions({
  queryKey: ["providers"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/providers", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const providerQuery = (name: string) =>
  queryOptions({ queryKey: ["providers", name], queryFn: () => unwrap(api.GET("/api/v1/providers/{ref}", { params: { path: { ref: name } } })) });

export const makeProvider = (provider: Wanted) => unwrap(api.POST("/api/v1/providers", { body: provider }));

/** What this node knows of upstreams: active checks, and what each worker avoids by itself. */
export const healthQuery = queryOptions({
  queryKey: ["upstream-health"],
  queryFn: () => unwrap(api.GET("/api/v1/telemetry/health")),
  refetchInterval: 10_000,
});

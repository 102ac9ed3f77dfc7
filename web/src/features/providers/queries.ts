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

type Patch = components["schemas"]["ProviderPatch"];
export type Tested = components["schemas"]["ProviderTested"];

/** `version`: the one that was seen; 412 where it is another by now. */
export const changeProvider = (name: string, version: number, patch: Patch) =>
  unwrap(api.PATCH("/api/v1/providers/{ref}", { params: { path: { ref: name }, header: { "if-match": `"${version}"` } }, body: patch }));
export const removeProvider = (name: string) => unwrap(api.DELETE("/api/v1/providers/{ref}", { params: { path: { ref: name } } }));
export const testProvider = (name: string) => unwrap(api.POST("/api/v1/providers/{ref}/test", { params: { path: { ref: name } }, body: {} }));

/** The newest request that a provider failed, in the last week. */
export const lastFailureQuery = (provider: string) =>
  queryOptions({
    queryKey: ["last-failure", provider],
    queryFn: async () => {
      const from = new Date(Date.now() - 7 * 86_400_000).toISOString();
      const page = await unwrap(api.GET("/api/v1/ledger", { params: { query: { provider, outcome: "upstream_failed", from, limit: 1 } } }));
      return page.items[0] ?? null;
    },
    staleTime: 30_000,
  });

export const makeProvider = (provider: Wanted) => unwrap(api.POST("/api/v1/providers", { body: provider }));

/** What this node knows of upstreams: active checks, and what each worker avoids by itself. */
export const healthQuery = queryOptions({
  queryKey: ["upstream-health"],
  queryFn: () => unwrap(api.GET("/api/v1/telemetry/health")),
  refetchInterval: 10_000,
});

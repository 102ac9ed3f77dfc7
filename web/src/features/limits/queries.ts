import { queryOptions } from "@tanstack/react-query";
import { read } from "@/api/client";
import type { Limit, LimitState, Listed } from "@/api/model";

export const limitsQuery = queryOptions({
  queryKey: ["limits"],
  queryFn: () => read<Listed<Limit>>("/api/v1/limits", { limit: 1000 }),
});

/** How full a limit is. Its counters move with each request: the live feed makes it stale. */
export const limitStateQuery = (name: string) =>
  queryOptions({
    queryKey: ["limit-state", name],
    queryFn: () => read<LimitState>(`/api/v1/limits/${encodeURIComponent(name)}/state`),
    refetchInterval: 10_000,
  });

import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { Deed, RequestState } from "@/api/model";
import type { components } from "@/api/schema";

const PAGE = 100;

/** The newest first, by pages. */
export const requestsQuery = (state: RequestState | undefined, app?: string) =>
  infiniteQueryOptions({
    queryKey: ["access-requests", "list", state ?? "", app ?? ""],
    queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/access-requests", { params: { query: { limit: PAGE, cursor: pageParam, ...(state ? { state } : {}), ...(app ? { app } : {}) } } })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor ?? undefined,
  });

export const requestQuery = (id: number) =>
  queryOptions({ queryKey: ["access-requests", id], queryFn: () => unwrap(api.GET("/api/v1/access-requests/{number}", { params: { path: { number: id } } })) });

/** How many await a decision: the count in the navigation. */
export const pendingQuery = queryOptions({
  queryKey: ["access-requests", "pending"],
  queryFn: async () => (await unwrap(api.GET("/api/v1/access-requests/pending"))).pending,
  staleTime: 30_000,
});

export const noticesQuery = infiniteQueryOptions({
  queryKey: ["notices"],
  queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/notices", { params: { query: { limit: PAGE, cursor: pageParam } } })),
  initialPageParam: null as string | null,
  getNextPageParam: (page) => page.next_cursor ?? undefined,
});

export const ask = (wanted: components["schemas"]["AccessAsked"]) => unwrap(api.POST("/api/v1/access-requests", { body: wanted }));

interface Decided {
  id: number;
  version: number;
  reason: string;
  /** Of an approval: RFC 3339, or null for good. */
  expiresAt: string | null;
}

/** Decide on the request as it was seen: one that has changed since is not touched. */
export function decide(deed: Deed, { id, version, reason, expiresAt }: Decided) {
  const params = { path: { number: id }, header: { "if-match": `"${version}"` } };
  const body = reason.trim() === "" ? {} : { reason: reason.trim() };
  switch (deed) {
    case "approve":
      return unwrap(api.POST("/api/v1/access-requests/{number}/approve", { params, body: { ...body, expires_at: expiresAt } }));
    case "deny":
      return unwrap(api.POST("/api/v1/access-requests/{number}/deny", { params, body }));
    case "revoke":
      return unwrap(api.POST("/api/v1/access-requests/{number}/revoke", { params, body }));
    case "withdraw":
      return unwrap(api.POST("/api/v1/access-requests/{number}/withdraw", { params, body }));
  }
}

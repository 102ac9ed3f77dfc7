import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { Permission, Role } from "@/api/model";

export const tokensQuery = queryOptions({
  queryKey: ["tokens"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/tokens", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const rolesQuery = queryOptions({ queryKey: ["roles"], queryFn: () => unwrap(api.GET("/api/v1/roles")), staleTime: Infinity });

export const makeToken = (token: { name: string; role: Role; team?: string; scopes?: Permission[]; expires_at?: string }) => unwrap(api.POST("/api/v1/tokens", { body: token }));
export const revokeToken = (id: number) => unwrap(api.DELETE("/api/v1/tokens/{ref}", { params: { path: { ref: String(id) } } }));

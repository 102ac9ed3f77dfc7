import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { Role } from "@/api/model";

export const usersQuery = queryOptions({
  queryKey: ["users"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/users", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const makeUser = (user: { name: string; password?: string; role: Role; team?: string }) => unwrap(api.POST("/api/v1/users", { body: user }));
export const removeUser = (id: number) => unwrap(api.DELETE("/api/v1/users/{ref}", { params: { path: { ref: String(id) } } }));
export const resetFactors = (id: number) => unwrap(api.POST("/api/v1/users/{ref}/reset-factors", { params: { path: { ref: String(id) } } }));
export const endSessionsOf = (id: number) => unwrap(api.DELETE("/api/v1/users/{ref}/sessions", { params: { path: { ref: String(id) } } }));

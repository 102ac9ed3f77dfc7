import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";

export const teamsQuery = queryOptions({
  queryKey: ["teams"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/teams", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const appsQuery = queryOptions({
  queryKey: ["apps"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/apps", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const appQuery = (name: string) =>
  queryOptions({ queryKey: ["apps", name], queryFn: () => unwrap(api.GET("/api/v1/apps/{ref}", { params: { path: { ref: name } } })) });

/** All keys that the signed-in user may see; the API has no list by app. */
export const keysQuery = queryOptions({
  queryKey: ["keys"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/keys", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const makeTeam = (name: string) => unwrap(api.POST("/api/v1/teams", { body: { name } }));
export const makeApp = (app: { name: string; team: string; routes: "*" | string[] }) => unwrap(api.POST("/api/v1/apps", { body: app }));
export const makeKey = (key: { app: string; name: string; expires_at?: string }) => unwrap(api.POST("/api/v1/keys", { body: key }));
export const revokeKey = (id: number) => unwrap(api.DELETE("/api/v1/keys/{ref}", { params: { path: { ref: String(id) } } }));

/** `overlap`: how long the old text stays good, e.g. `24h`; null: not at all. */
export const rotateKey = (id: number, overlap: string | null) =>
  unwrap(api.POST("/api/v1/keys/{ref}/rotate", { params: { path: { ref: String(id) } }, body: overlap === null ? {} : { overlap } }));
export const retireKey = (id: number) => unwrap(api.POST("/api/v1/keys/{ref}/retire", { params: { path: { ref: String(id) } } }));

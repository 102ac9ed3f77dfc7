import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Schemas = components["schemas"];

export const teamsQuery = queryOptions({
  queryKey: ["teams"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/teams", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const teamQuery = (name: string) =>
  queryOptions({ queryKey: ["teams", name], queryFn: () => unwrap(api.GET("/api/v1/teams/{ref}", { params: { path: { ref: name } } })) });

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
export const makeApp = (app: Schemas["AppEntry"]) => unwrap(api.POST("/api/v1/apps", { body: app }));

/** `version`: the one that was seen; 412 where it is another by now. */
export const changeApp = (name: string, version: number, patch: Schemas["AppPatch"]) =>
  unwrap(api.PATCH("/api/v1/apps/{ref}", { params: { path: { ref: name }, header: { "if-match": `"${version}"` } }, body: patch }));
export const removeApp = (name: string) => unwrap(api.DELETE("/api/v1/apps/{ref}", { params: { path: { ref: name } } }));
export const changeTeam = (name: string, version: number, patch: Schemas["TeamPatch"]) =>
  unwrap(api.PATCH("/api/v1/teams/{ref}", { params: { path: { ref: name }, header: { "if-match": `"${version}"` } }, body: patch }));
export const removeTeam = (name: string) => unwrap(api.DELETE("/api/v1/teams/{ref}", { params: { path: { ref: name } } }));

export const makeKey = (key: { app: string; name: string; expires_at?: string }) => unwrap(api.POST("/api/v1/keys", { body: key }));
export const revokeKey = (id: number) => unwrap(api.DELETE("/api/v1/keys/{ref}", { params: { path: { ref: String(id) } } }));

/** `overlap`: how long the old text stays good, e.g. `24h`; null: not at all. */
export const rotateKey = (id: number, overlap: string | null) =>
  unwrap(api.POST("/api/v1/keys/{ref}/rotate", { params: { path: { ref: String(id) } }, body: overlap === null ? {} : { overlap } }));
export const retireKey = (id: number) => unwrap(api.POST("/api/v1/keys/{ref}/retire", { params: { path: { ref: String(id) } } }));

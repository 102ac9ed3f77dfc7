import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { OpenApi } from "./openapi";

export const catalogueQuery = queryOptions({
  queryKey: ["catalogue"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/catalogue", { params: { query: { limit: 200, cursor: cursor ?? null } } })),
});

export const serviceQuery = (name: string) =>
  queryOptions({ queryKey: ["catalogue", name], queryFn: () => unwrap(api.GET("/api/v1/catalogue/{ref}", { params: { path: { ref: name } } })) });

export const openApiQuery = (name: string) =>
  queryOptions({
    queryKey: ["catalogue", name, "openapi"],
    queryFn: async () => (await unwrap(api.GET("/api/v1/service-openapi/{ref}", { params: { path: { ref: name } } }))) as OpenApi,
    staleTime: 60_000,
  });

/** A key for some minutes, to try something out as this app. */
export const makeTrialKey = (app: string) => unwrap(api.POST("/api/v1/playground/keys", { body: { app } }));

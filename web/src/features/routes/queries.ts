import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Wanted = components["schemas"]["RouteDocument"];

export const routesQuery = queryOptions({
  queryKey: ["routes"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/routes", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const routeQuery = (name: string) =>
  queryOptions({ queryKey: ["routes", name], queryFn: () => unwrap(api.GET("/api/v1/routes/{ref}", { params: { path: { ref: name } } })) });

export const makeRoute = (route: Wanted) => unwrap(api.POST("/api/v1/routes", { body: route }));

import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { Capture, Route } from "@/api/model";
import type { components } from "@/api/schema";

type Wanted = components["schemas"]["RouteDocument"];

export const routesQuery = queryOptions({
  queryKey: ["routes"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/routes", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const routeQuery = (name: string) =>
  queryOptions({ queryKey: ["routes", name], queryFn: () => unwrap(api.GET("/api/v1/routes/{ref}", { params: { path: { ref: name } } })) });

type Patch = components["schemas"]["RoutePatch"];

/** `version`: the one that was seen; 412 where it is another by now. */
export const changeRoute = (name: string, version: number, patch: Patch) =>
  unwrap(api.PATCH("/api/v1/routes/{ref}", { params: { path: { ref: name }, header: { "if-match": `"${version}"` } }, body: patch }));
export const removeRoute = (name: string) => unwrap(api.DELETE("/api/v1/routes/{ref}", { params: { path: { ref: name } } }));

export const makeRoute = (route: Wanted) => unwrap(api.POST("/api/v1/routes", { body: route }));

/** Change what a route records of bodies, if it still is as it was seen; null: nothing any more. */
export const record = (route: Route, capture: Capture | null) =>
  unwrap(api.PATCH("/api/v1/routes/{ref}", { params: { path: { ref: route.name }, header: { "if-match": `"${route.version}"` } }, body: { capture } }));

export const eraseBodies = (route: string) => unwrap(api.DELETE("/api/v1/bodies", { params: { query: { route } } }));

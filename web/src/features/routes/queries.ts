import { queryOptions } from "@tanstack/react-query";
import { read } from "@/api/client";
import type { Listed, Route } from "@/api/model";

export const routesQuery = queryOptions({
  queryKey: ["routes"],
  queryFn: () => read<Listed<Route>>("/api/v1/routes", { limit: 1000 }),
});

export const routeQuery = (name: string) =>
  queryOptions({ queryKey: ["routes", name], queryFn: () => read<Route>(`/api/v1/routes/${encodeURIComponent(name)}`) });

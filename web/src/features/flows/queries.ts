import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { api, unwrap } from "@/api/client";
import type { FlowFilters, Measure } from "./search";

const PATHS = 500;

/** The picture. The live feed makes it stale; what stood stays until the new one is there. */
export const flowsQuery = (filters: FlowFilters, measure: Measure, range: RangeName) =>
  queryOptions({
    queryKey: ["usage", "flows", filters, measure, range],
    queryFn: () => unwrap(api.GET("/api/v1/flows", { params: { query: { ...known(filters), ...spanOf(range, Date.now()), measure, limit: PATHS } } })),
    placeholderData: keepPreviousData,
    refetchInterval: 15_000,
  });

const known = (filters: FlowFilters): Record<string, string> => Object.fromEntries(Object.entries(filters).filter((entry): entry is [string, string] => entry[1] !== undefined));

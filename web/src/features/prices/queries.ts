import { infiniteQueryOptions, queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
export type Price = Schemas["PriceView"];
export type Figures = Schemas["PriceFigures"];
export type PriceUse = Schemas["PriceUse"];
export type TableEntry = Schemas["TableEntryView"];
type Wanted = Schemas["PriceDocument"];

export const pricesQuery = queryOptions({
  queryKey: ["prices"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/prices", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

/** `also`: `provider/model` to be told of beside the targets of routes. */
export const priceUseQuery = (also: readonly string[]) =>
  queryOptions({
    queryKey: ["price-use", also],
    queryFn: () => unwrap(api.GET("/api/v1/price-use", { params: { query: { also: also.join("\n") } } })),
  });

export const tableQuery = (search: string, vendor: string | undefined) =>
  infiniteQueryOptions({
    queryKey: ["price-table", search, vendor],
    queryFn: ({ pageParam }) => unwrap(api.GET("/api/v1/price-table", { params: { query: { search, vendor: vendor ?? null, cursor: pageParam, limit: 200 } } })),
    initialPageParam: null as string | null,
    getNextPageParam: (page) => page.next_cursor,
    staleTime: Infinity,
  });

export const makePrice = (price: Wanted) => unwrap(api.POST("/api/v1/prices", { body: price }));
export const changePrice = (price: Price, figures: Partial<Figures>) =>
  unwrap(api.PATCH("/api/v1/prices/{ref}", { params: { path: { ref: price.name }, header: { "if-match": `"${price.version}"` } }, body: figures }));
export const removePrice = (price: Price) => unwrap(api.DELETE("/api/v1/prices/{ref}", { params: { path: { ref: price.name }, header: { "if-match": `"${price.version}"` } } }));

import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { Denial } from "@/api/model";

const PAGE = 1000;

/** All of them; how often each has refused, and what of its limit is used, comes from the kernel without an event. */
export const denialsQuery = queryOptions({
  queryKey: ["denials"],
  queryFn: async () => {
    const items: Denial[] = [];
    let cursor: string | null = null;
    do {
      const page: { items: Denial[]; next_cursor: string | null } = await unwrap(api.GET("/api/v1/denials", { params: { query: { limit: PAGE, cursor } } }));
      items.push(...page.items);
      cursor = page.next_cursor;
    } while (cursor !== null);
    return items;
  },
  refetchInterval: 2000,
});

export const removeDenial = (name: string) => unwrap(api.DELETE("/api/v1/denials/{ref}", { params: { path: { ref: name } } }));

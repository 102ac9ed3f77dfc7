import { queryOptions } from "@tanstack/react-query";
import { spanOf, type RangeName } from "@/app/range";
import { read, type Listed } from "@/api/interim";
import type { UsageItem } from "@/api/model";

/** More groups than this are not fetched: a chart or a column of sums has no use for them. */
const MOST_PAGES = 5;

/** Sums of the ledger by `groupBy` (a comma list), over the range or over the one `shift` ranges before it. */
export const usageQuery = (groupBy: string, range: RangeName, shift = 0) =>
  queryOptions({
    queryKey: ["usage", groupBy, range, shift],
    queryFn: async () => {
      const span = spanOf(range, Date.now(), shift);
      const items: UsageItem[] = [];
      let cursor: string | undefined;
      for (let page = 0; page < MOST_PAGES; page += 1) {
        const answer = await read<Listed<UsageItem>>("/api/v1/usage", { group_by: groupBy, limit: 1000, cursor, ...span });
        items.push(...answer.items);
        if (!answer.next_cursor) break;
        cursor = answer.next_cursor;
      }
      return items;
    },
    refetchInterval: 60_000,
  });

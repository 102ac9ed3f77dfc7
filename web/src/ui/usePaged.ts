/** Rows that come page by page, as a DataTable takes them. */
import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";

interface Paged<Item> {
  rows: readonly Item[] | undefined;
  /** Only while there are no rows: what is there stays to be seen. */
  error: unknown;
  again: () => void;
  more: (() => void) | undefined;
  loadingMore: boolean;
}

export function usePaged<Item>(pages: UseInfiniteQueryResult<InfiniteData<{ items: Item[] }>>): Paged<Item> {
  const { data, fetchNextPage } = pages;
  const rows = useMemo(() => data?.pages.flatMap((page) => page.items), [data]);
  const more = useCallback(() => void fetchNextPage(), [fetchNextPage]);
  return { rows, error: rows ? undefined : pages.error, again: () => void pages.refetch(), more: pages.hasNextPage ? more : undefined, loadingMore: pages.isFetchingNextPage };
}

/** Rows that come page by page, as a DataTable takes them. */
import type { InfiniteData, UseInfiniteQueryResult } from "@tanstack/react-query";
import { useCallback, useMemo } from "react";

interface Paged<Item> {
  rows: readonly Item[] | undefined;
  error: unknown;
  again: () => void;
  more: (() => void) | undefined;
  loadingMore: boolean;
}

export function usePaged<Item>(pages: UseInfiniteQueryResult<InfiniteData<{ items: Item[] }>>): Paged<Item> {
  const { data, fetchNextPage } = pages;
  const rows = useMemo(() => data?.pages.flatMap((page) => page.items), [data]);
  const more = useCallback(() => void fetchNextPage(), [fetchNextPage]);
  // A page that could not be had is asked for again by who reads, not by the table, for ever.
  const goesOn = pages.hasNextPage && !pages.isFetchNextPageError;
  return { rows, error: pages.error, again: () => void pages.refetch(), more: goesOn ? more : undefined, loadingMore: pages.isFetchingNextPage };
}

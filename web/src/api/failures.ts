/** What could not be loaded and what of it the page says by itself: the rest is said above the page (app/Unloaded.tsx). */
import { notifyManager, type Query, type QueryClient } from "@tanstack/react-query";
import { useLayoutEffect, useSyncExternalStore } from "react";
import { ApiProblem } from "./problem";

const said = new Map<unknown, number>();
const listeners = new Set<() => void>();

/** The page shows this error itself, with what to do about it; undefined and null: there is none. */
export function useSaid(error: unknown): void {
  useLayoutEffect(() => {
    if (error === undefined || error === null) return undefined;
    said.set(error, (said.get(error) ?? 0) + 1);
    tell();
    return () => {
      const times = (said.get(error) ?? 1) - 1;
      if (times > 0) said.set(error, times);
      else said.delete(error);
      tell();
    };
  }, [error]);
}

function tell(): void {
  for (const each of listeners) each();
}

/** Whatever the page asks for and has not got, or not anew, without saying so. */
export function useUnsaid(queries: QueryClient): readonly Query[] {
  const cache = queries.getQueryCache();
  const unsaid = (): Query[] => cache.getAll().filter((query) => query.state.error && query.isActive() && matters(query.state.error) && !said.has(query.state.error));
  // As text, which stays the same while they do.
  useSyncExternalStore(
    (changed) => {
      listeners.add(changed);
      const leave = cache.subscribe(notifyManager.batchCalls(changed));
      return () => {
        listeners.delete(changed);
        leave();
      };
    },
    () => unsaid().map((query) => query.queryHash).join(),
  );
  return unsaid();
}

/** What is not there (any more) is no failure; a session that has ended leads to the sign-in page. */
const matters = (error: unknown): boolean => !(error instanceof ApiProblem && (error.status === 404 || error.status === 401));

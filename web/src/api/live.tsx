/** The live feed (`GET /api/v1/events`): tells pages that something has happened, and says when it is cut. */
import { useQueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";

export interface Feed {
  state: "connecting" | "live" | "cut";
  /** Unix milliseconds of the newest event; undefined: none since the page was opened. */
  newestMs: number | undefined;
}

const FeedContext = createContext<Feed>({ state: "connecting", newestMs: undefined });

export const useFeed = (): Feed => useContext(FeedContext);

/** What an event makes stale, and how often at most it is asked for again. */
const STALE = [
  { key: ["ledger"], everyMs: 1000 },
  { key: ["usage"], everyMs: 3000 },
  { key: ["limit-state"], everyMs: 2000 },
] as const;

const EVENTS = ["message", "request", "requests", "change", "changed", "state", "discovery"];

export function LiveFeed({ children }: { children: ReactNode }) {
  const queries = useQueryClient();
  const [state, setState] = useState<Feed["state"]>("connecting");
  const [newestMs, setNewestMs] = useState<number>();

  useEffect(() => {
    const feed = new EventSource("/api/v1/events");
    const waiting = new Map<string, number>();
    const onEvent = (): void => {
      setNewestMs(Date.now());
      for (const { key, everyMs } of STALE) {
        if (waiting.has(key[0])) continue;
        const timer = window.setTimeout(() => {
          waiting.delete(key[0]);
          void queries.invalidateQueries({ queryKey: key });
        }, everyMs);
        waiting.set(key[0], timer);
      }
    };
    feed.onopen = () => setState("live");
    feed.onerror = () => setState("cut");
    for (const name of EVENTS) feed.addEventListener(name, onEvent);
    return () => {
      feed.close();
      for (const timer of waiting.values()) window.clearTimeout(timer);
    };
  }, [queries]);

  const value = useMemo(() => ({ state, newestMs }), [state, newestMs]);
  return <FeedContext value={value}>{children}</FeedContext>;
}

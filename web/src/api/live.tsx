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

/** What each event makes stale, and how often at most that is asked for again. */
const STALE: Record<string, readonly { key: readonly string[]; everyMs: number }[]> = {
  request: [
    { key: ["ledger"], everyMs: 1000 },
    { key: ["limit-state"], everyMs: 2000 },
    { key: ["usage"], everyMs: 3000 },
  ],
  configuration: ["providers", "routes", "teams", "apps", "keys", "limits"].map((kind) => ({ key: [kind], everyMs: 500 })),
};


export function LiveFeed({ children }: { children: ReactNode }) {
  const queries = useQueryClient();
  const [state, setState] = useState<Feed["state"]>("connecting");
  const [newestMs, setNewestMs] = useState<number>();

  useEffect(() => {
    const feed = new EventSource("/api/v1/events");
    const waiting = new Map<string, number>();
    const refresh = (key: readonly string[], everyMs: number): void => {
      const name = key.join();
      if (waiting.has(name)) return;
      const timer = window.setTimeout(() => {
        waiting.delete(name);
        void queries.invalidateQueries({ queryKey: key });
      }, everyMs);
      waiting.set(name, timer);
    };
    feed.onopen = () => setState("live");
    feed.onerror = () => setState("cut");
    for (const [event, stale] of Object.entries(STALE)) {
      feed.addEventListener(event, () => {
        setNewestMs(Date.now());
        for (const { key, everyMs } of stale) refresh(key, everyMs);
      });
    }
    return () => {
      feed.close();
      for (const timer of waiting.values()) window.clearTimeout(timer);
    };
  }, [queries]);

  const value = useMemo(() => ({ state, newestMs }), [state, newestMs]);
  return <FeedContext value={value}>{children}</FeedContext>;
}

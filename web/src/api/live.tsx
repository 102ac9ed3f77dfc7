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
    { key: ["limit-state"], everyMs: 3000 },
    { key: ["usage"], everyMs: 3000 },
  ],
  configuration: ["providers", "routes", "teams", "apps", "keys", "limits", "interception-rules", "catalogue"].map((kind) => ({ key: [kind], everyMs: 500 })),
  discovery: [{ key: ["discoveries"], everyMs: 300 }, { key: ["usage", "flows"], everyMs: 1000 }, { key: ["usage", "overview"], everyMs: 1000 }],
  denial: [["discoveries"], ["denials"], ["usage", "flows"]].map((key) => ({ key, everyMs: 300 })),
  alert: [{ key: ["alerts"], everyMs: 1000 }],
  notice: [["notices"], ["access-requests"], ["catalogue"], ["apps"], ["usage", "overview"]].map((key) => ({ key, everyMs: 300 })),
};

const RETRY_MS = 2000;

/** `on`: false for who may not listen (yet). */
export function LiveFeed({ on, children }: { on: boolean; children: ReactNode }) {
  const queries = useQueryClient();
  const [state, setState] = useState<Feed["state"]>("connecting");
  const [newestMs, setNewestMs] = useState<number>();

  useEffect(() => {
    if (!on) return undefined;
    let feed: EventSource;
    let retry: number | undefined;
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
    const listen = (again: boolean): void => {
      feed = new EventSource("/api/v1/events");
      feed.onopen = () => {
        setState("live");
        if (again) void queries.invalidateQueries(); // what happened meanwhile was not told
      };
      feed.onerror = () => {
        setState("cut");
        again = true;
        // After an answer that is no stream (the gateway restarts) the browser gives up; we do not.
        if (feed.readyState === EventSource.CLOSED) retry = window.setTimeout(listen, RETRY_MS, true);
      };
      for (const [event, stale] of Object.entries(STALE)) {
        feed.addEventListener(event, () => {
          setNewestMs(Date.now());
          for (const { key, everyMs } of stale) refresh(key, everyMs);
        });
      }
    };
    listen(false);
    return () => {
      feed.close();
      window.clearTimeout(retry);
      for (const timer of waiting.values()) window.clearTimeout(timer);
    };
  }, [queries, on]);

  const value = useMemo(() => ({ state, newestMs }), [state, newestMs]);
  return <FeedContext value={value}>{children}</FeedContext>;
}

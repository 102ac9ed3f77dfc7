import { t } from "@lingui/core/macro";
import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { SeriesList, SeriesPoint } from "@/api/model";

/** What the table is of, and what rates are means of. */
export const WINDOW_S = 60;

/** Routes, probes and their cost. Asked each second while the page is seen. */
export const telemetryQuery = queryOptions({
  queryKey: ["telemetry"],
  queryFn: () => unwrap(api.GET("/api/v1/telemetry", { params: { query: { window: `${WINDOW_S}s` } } })),
  refetchInterval: 1000,
  staleTime: 0,
});

/** How far back a chart looks, in which steps, and how often it is asked for again. */
export const ZOOMS = {
  "1s": { label: t`10 min by second`, step: "1s", stepS: 1, spanS: 600, everyMs: 1000 },
  "1m": { label: t`6 h by minute`, step: "1m", stepS: 60, spanS: 6 * 3600, everyMs: 20_000 },
  "1h": { label: t`30 days by hour`, step: "1h", stepS: 3600, spanS: 30 * 86_400, everyMs: 300_000 },
} as const;

export type Zoom = keyof typeof ZOOMS;

/** The kernel's figures of one route and target. Of seconds only those that are new are asked for. */
export const seriesQuery = (route: string, target: string, zoom: Zoom) =>
  queryOptions({
    queryKey: ["telemetry-series", route, target, zoom],
    queryFn: async ({ client, queryKey }): Promise<SeriesList> => {
      const { step, spanS } = ZOOMS[zoom];
      const nowMs = Date.now();
      const beginMs = nowMs - spanS * 1000;
      const known = step === "1s" ? (client.getQueryData<SeriesList>(queryKey)?.items ?? []).filter((point) => Date.parse(point.at) >= beginMs) : [];
      const from = known.at(-1)?.at ?? new Date(beginMs).toISOString();
      const answer = await unwrap(api.GET("/api/v1/telemetry/series", { params: { query: { step, from, to: new Date(nowMs).toISOString(), route, target } } }));
      return { ...answer, items: joined(known, answer.items) };
    },
    refetchInterval: ZOOMS[zoom].everyMs,
    staleTime: 0,
    structuralSharing: false,
  });

function joined(known: readonly SeriesPoint[], came: readonly SeriesPoint[]): SeriesPoint[] {
  const first = came[0];
  return first === undefined ? [...known] : [...known.filter((point) => Date.parse(point.at) < Date.parse(first.at)), ...came];
}

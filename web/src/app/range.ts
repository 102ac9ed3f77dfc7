/** The one time range of the console: in the URL as `?range=`, obeyed by every page. */
import { t } from "@lingui/core/macro";
import { useSearch } from "@tanstack/react-router";

/** `within` is the label inside a sentence. */
export const RANGES = {
  "1h": { label: t`Last hour`, within: t`in the last hour`, hours: 1 },
  "6h": { label: t`Last 6 hours`, within: t`in the last 6 hours`, hours: 6 },
  "24h": { label: t`Last 24 hours`, within: t`in the last 24 hours`, hours: 24 },
  "7d": { label: t`Last 7 days`, within: t`in the last 7 days`, hours: 7 * 24 },
  "30d": { label: t`Last 30 days`, within: t`in the last 30 days`, hours: 30 * 24 },
} as const;

export type RangeName = keyof typeof RANGES;
export const DEFAULT_RANGE: RangeName = "24h";

export const isRange = (value: unknown): value is RangeName => typeof value === "string" && value in RANGES;

export interface Span {
  from: string;
  to?: string;
}

export function useRange(): RangeName {
  const search: { range?: RangeName } = useSearch({ strict: false });
  return search.range ?? DEFAULT_RANGE;
}

/** The range as instants, `shift` ranges back from now: 1 is the one before the present one. Up to now needs no end: with
 * one, the last hour would be read row by row, and sums of the last week would not do for it. */
export function spanOf(range: RangeName, nowMs: number, shift = 0): Span {
  const length = RANGES[range].hours * 3_600_000;
  const end = nowMs - shift * length;
  return { from: new Date(end - length).toISOString(), ...(shift === 0 ? {} : { to: new Date(end).toISOString() }) };
}

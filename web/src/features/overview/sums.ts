/** What the overview computes from usage items and ledger rows. */
import { t } from "@lingui/core/macro";
import { RANGES, spanOf, type RangeName } from "@/app/range";
import type { LedgerRow, UsageItem } from "@/api/model";
import type { Series } from "@/ui/TimeChart";

export interface Sums {
  requests: number;
  errors: number;
  unpriced: number;
  tokens: number;
  costMicros: number;
}

export function sumOf(items: readonly UsageItem[]): Sums {
  const sums: Sums = { requests: 0, errors: 0, unpriced: 0, tokens: 0, costMicros: 0 };
  for (const item of items) {
    sums.requests += item.requests;
    sums.errors += item.errors;
    sums.unpriced += item.unpriced;
    sums.tokens += item.input_tokens + item.output_tokens;
    sums.costMicros += item.cost_usd_micros;
  }
  return sums;
}

export type Measure = "spend" | "tokens" | "requests";

const measured: Record<Measure, (item: UsageItem) => number> = {
  spend: (item) => item.cost_usd_micros,
  tokens: (item) => item.input_tokens + item.output_tokens,
  requests: (item) => item.requests,
};

export const bucketOf = (range: RangeName): "hour" | "day" => (RANGES[range].hours > 72 ? "day" : "hour");
const SECONDS = { hour: 3600, day: 86_400 } as const;
const PALETTE = 6;

export interface Timeline {
  times: number[];
  bucketS: number;
  series: Series[];
}

/** Buckets in UTC from the range's beginning to now, one series for each of the largest routes, the tail folded into one. */
export function timeline(items: readonly UsageItem[], range: RangeName, measure: Measure, nowMs: number): Timeline {
  const bucket = bucketOf(range);
  const bucketS = SECONDS[bucket];
  const first = Math.floor(new Date(spanOf(range, nowMs).from).getTime() / 1000 / bucketS) * bucketS;
  const length = Math.floor(nowMs / 1000 / bucketS) - first / bucketS + 1;
  const times = Array.from({ length }, (_, index) => first + index * bucketS);

  const value = measured[measure];
  const totals = new Map<string, number>();
  const routeOf = (item: UsageItem): string => item.route ?? t`no route`;
  for (const item of items) totals.set(routeOf(item), (totals.get(routeOf(item)) ?? 0) + value(item));
  // By name, not by size: a route keeps its colour when another overtakes it.
  const largest = [...totals].sort((a, b) => b[1] - a[1]).slice(0, PALETTE).map(([name]) => name).sort();

  const rest = t`all others`;
  const rows = new Map<string, number[]>();
  for (const item of items) {
    const at = (bucketStart(item, bucket) - first) / bucketS;
    if (at < 0 || at >= length) continue;
    const name = largest.includes(routeOf(item)) ? routeOf(item) : rest;
    const row = rows.get(name) ?? new Array<number>(length).fill(0);
    row[at] = (row[at] ?? 0) + value(item);
    rows.set(name, row);
  }
  const named = largest.filter((name) => rows.has(name)).map((name, index) => ({ name, color: `--sg-series-${index + 1}`, values: rows.get(name) ?? [] }));
  const others = rows.get(rest);
  return { times, bucketS, series: others ? [...named, { name: rest, color: "--sg-series-rest", values: others }] : named };
}

function bucketStart(item: UsageItem, bucket: "hour" | "day"): number {
  return new Date(item[bucket] ?? 0).getTime() / 1000;
}

/** Sums a bucket, for the small line beside a number. */
export function sparkOf(line: Timeline): number[] {
  return line.times.map((_, at) => line.series.reduce((sum, each) => sum + (each.values[at] ?? 0), 0));
}

/** The value that `part` of the values do not exceed; null of nothing. */
export function quantile(values: readonly number[], part: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.ceil(part * sorted.length) - 1)] ?? null;
}

export interface ProviderState {
  provider: string;
  requests: number;
  failed: number;
  ttftP95: number | null;
  newest: string;
}

/** How each provider fared in these rows. Failed: it broke off, could not be reached, or answered 5xx. */
export function providerStates(rows: readonly LedgerRow[]): ProviderState[] {
  const states = new Map<string, { requests: number; failed: number; ttfts: number[]; newest: string }>();
  for (const row of rows) {
    if (row.provider === null) continue;
    const state = states.get(row.provider) ?? { requests: 0, failed: 0, ttfts: [], newest: row.started_at };
    state.requests += 1;
    if (row.outcome === "upstream_failed" || (row.upstream_status ?? 0) >= 500) state.failed += 1;
    if (row.ttft_ms !== null) state.ttfts.push(row.ttft_ms);
    states.set(row.provider, state);
  }
  return [...states]
    .map(([provider, { requests, failed, ttfts, newest }]) => ({ provider, requests, failed, ttftP95: quantile(ttfts, 0.95), newest }))
    .sort((a, b) => b.requests - a.requests);
}

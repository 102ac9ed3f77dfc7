/** What the overview computes from usage items and ledger rows. */
import { t } from "@lingui/core/macro";
import { RANGES, spanOf, type RangeName } from "@/app/range";
import type { UsageItem } from "@/api/model";
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

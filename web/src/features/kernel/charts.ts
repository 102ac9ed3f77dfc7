/** From the API's steps to the lines of charts. */
import { t } from "@lingui/core/macro";
import type { SeriesPoint } from "@/api/model";
import type { Series } from "@/ui/TimeChart";

export interface Moment {
  atS: number;
  /** undefined: a gap. */
  point: SeriesPoint | undefined;
}

/** Longer distances than so many steps are gaps. */
const GAP_STEPS = 1.6;

/** Steps as they came, with a gap wherever one or more are left out: nothing happened then, or nothing was measured. */
export function timesOf(points: readonly SeriesPoint[], stepS: number): Moment[] {
  const moments: Moment[] = [];
  for (const point of points) {
    const atS = Date.parse(point.at) / 1000;
    const before = moments.at(-1)?.atS;
    if (before !== undefined && atS - before > GAP_STEPS * stepS) moments.push({ atS: before + stepS, point: undefined });
    moments.push({ atS, point });
  }
  return moments;
}

export interface Chart {
  title: string;
  unit: "time" | "count" | "bytes";
  series: readonly Series[];
}

export function chartsOf(moments: readonly Moment[], stepS: number): Chart[] {
  const line = (name: string, color: string, value: (point: SeriesPoint) => number | null | undefined): Series => ({
    name,
    color,
    values: moments.map(({ point }) => (point ? (value(point) ?? null) : null)),
  });
  const rate = (total: number | null): number | null => (total === null ? null : total / stepS);
  return [
    {
      title: t`RTT`,
      unit: "time",
      series: [
        line(t`provider p50`, "--sg-series-1", (point) => point.rtt_ms?.p50),
        line("p95", "--sg-series-6", (point) => point.rtt_ms?.p95),
        line(t`client p50`, "--sg-series-4", (point) => point.client_rtt_ms?.p50),
      ],
    },
    {
      title: t`First byte`,
      unit: "time",
      series: [
        line("p50", "--sg-series-1", (point) => point.first_byte_ms?.p50),
        line("p95", "--sg-series-6", (point) => point.first_byte_ms?.p95),
        line(t`client waits, p50`, "--sg-series-4", (point) => point.client_first_byte_ms?.p50),
      ],
    },
    {
      title: t`Token gap`,
      unit: "time",
      series: [line("p50", "--sg-series-1", (point) => point.token_gap_ms?.p50), line("p95", "--sg-series-6", (point) => point.token_gap_ms?.p95)],
    },
    {
      title: t`Retransmits`,
      unit: "count",
      series: [line(t`to the provider`, "--sg-series-2", (point) => point.retransmits), line(t`to clients`, "--sg-series-4", (point) => point.client_retransmits)],
    },
    {
      title: t`Bytes`,
      unit: "bytes",
      series: [line(t`in`, "--sg-series-1", (point) => rate(point.bytes_in)), line(t`out`, "--sg-series-3", (point) => rate(point.bytes_out))],
    },
  ];
}

/** Where a request's time went, on one axis: above it what the kernel saw of its route meanwhile, below it the gateway's own clock. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { LedgerRow, SeriesPoint } from "@/api/model";
import { useMay } from "@/api/session";
import { Latency, Unknown } from "@/ui/Figure";
import { latency } from "@/units/time";
import { kernelMeanwhile } from "./queries";
import styles from "./time.module.css";

export function TimeAxis({ row }: { row: LedgerRow }) {
  if (row.latency_ms === null) return <Unknown why={t`the request has not ended, or its end was not seen`} />;
  const whole = Math.max(row.latency_ms, 0.001);
  const first = row.ttft_ms === null ? null : Math.min(row.ttft_ms, whole);
  const waiting = first ?? whole;
  const at = (ms: number): string => `${Math.min(100, (ms / whole) * 100)}%`;
  const word = first === null ? t`until the answer` : t`waiting for the first token`;
  return (
    <div className={styles.axis}>
      <KernelLane row={row} wholeMs={whole} />
      <div className={styles.scale} aria-hidden>
        {ticksOf(whole).map((ms) => (
          <span key={ms} style={{ insetInlineStart: at(ms) }} data-end={ms / whole > 0.9 || undefined}>
            {ms === 0 ? "0" : latency(ms)}
          </span>
        ))}
      </div>
      <div className={styles.track} role="img" aria-label={t`First token after ${latency(waiting)}, end after ${latency(whole)}`}>
        <span className={styles.waiting} style={{ width: at(waiting) }} />
        <span className={styles.answering} style={{ width: `calc(100% - ${at(waiting)})` }} />
      </div>
      <dl className={styles.phases}>
        <div>
          <dt>
            <i className={styles.waiting} aria-hidden /> {word}
          </dt>
          <dd>
            <Latency ms={waiting} />
          </dd>
        </div>
        {first !== null ? (
          <div>
            <dt>
              <i className={styles.answering} aria-hidden /> {t`answering`}
            </dt>
            <dd>
              <Latency ms={whole - first} />
              {speed(row, first)}
            </dd>
          </div>
        ) : null}
        {row.attempts > 1 ? (
          <div>
            <dt>{t`over`}</dt>
            <dd>{plural(row.attempts, { one: "# attempt", other: "# attempts" })}</dd>
          </div>
        ) : null}
      </dl>
      <p className={styles.source}>
        <Trans>By the gateway's clock, from the request's arrival on: waiting holds admission, the choice of a target, connecting, and failed attempts.</Trans>
      </p>
    </div>
  );
}

/** Marks of the kernel. They are medians of the route and target in these seconds: no connection belongs to one request. */
function KernelLane({ row, wholeMs }: { row: LedgerRow; wholeMs: number }) {
  const may = useMay();
  const asked = useQuery({ ...kernelMeanwhile(row), enabled: row.route !== null && row.target !== null && may("configuration:read") });
  if (row.target === null) return null;
  const points = asked.data?.items ?? [];
  const marks = points.length > 0 ? marksOf(points) : [];
  const link = (
    <Link to="/kernel/$route" params={{ route: row.route ?? "" }} search={(old) => ({ ...old, target: row.target ?? undefined })}>
      {t`this route in Telemetry`}
    </Link>
  );
  if (marks.length === 0) {
    return (
      <p className={styles.source}>
        {asked.error ? t`The kernel's marks could not be asked for.` : asked.isPending && may("configuration:read") ? t`Asking for the kernel's marks…` : <Trans>The kernel measured nothing of this route then: {link} says why.</Trans>}
      </p>
    );
  }
  const placed = marks.filter((mark) => mark.atMs !== undefined);
  const counted = points.flatMap((point) => [point.retransmits, point.client_retransmits].filter((each) => each !== null));
  const resent = counted.reduce((sum, each) => sum + each, 0);
  return (
    <div className={styles.kernel}>
      <div className={styles.marks} aria-hidden>
        {placed.map((mark) => (
          <i key={mark.name} style={{ insetInlineStart: `${Math.min(100, ((mark.atMs ?? 0) / wholeMs) * 100)}%` }} title={mark.name} />
        ))}
      </div>
      <dl className={styles.phases}>
        {marks.map((mark) => (
          <div key={mark.name}>
            <dt>{mark.name}</dt>
            <dd>≈ <Latency ms={mark.ms} /></dd>
          </div>
        ))}
        {counted.length > 0 ? (
          <div>
            <dt>{t`sent again`}</dt>
            <dd>{plural(resent, { one: "# segment", other: "# segments" })}</dd>
          </div>
        ) : null}
      </dl>
      <p className={styles.source}>
        <Trans>By the kernel: medians of all connections of this route and target in these seconds, {link}.</Trans>
      </p>
    </div>
  );
}

interface KernelMark {
  name: string;
  ms: number;
  /** Where it stands on the axis. */
  atMs?: number;
}

function marksOf(points: readonly SeriesPoint[]): KernelMark[] {
  const median = (pick: (point: SeriesPoint) => { p50: number; count: number } | null): number | undefined => {
    const known = points.flatMap((point) => pick(point) ?? []);
    const count = known.reduce((sum, each) => sum + each.count, 0);
    return count === 0 ? undefined : known.reduce((sum, each) => sum + each.p50 * each.count, 0) / count;
  };
  const client = median((point) => point.client_rtt_ms);
  const connect = median((point) => point.connect_ms);
  const rtt = median((point) => point.rtt_ms);
  const first = median((point) => point.first_byte_ms);
  const gap = median((point) => point.token_gap_ms);
  return [
    ...(client === undefined ? [] : [{ name: t`client's round trip`, ms: client }]),
    ...(connect === undefined ? [] : [{ name: t`connecting`, ms: connect, atMs: connect }]),
    ...(rtt === undefined ? [] : [{ name: t`provider's round trip`, ms: rtt, atMs: rtt }]),
    ...(first === undefined ? [] : [{ name: t`first byte`, ms: first, atMs: first }]),
    ...(gap === undefined ? [] : [{ name: t`between tokens`, ms: gap }]),
  ];
}

/** Some even figures on the axis, its beginning and end among them. */
function ticksOf(wholeMs: number): number[] {
  const rough = wholeMs / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough) ?? rough;
  const ticks = [0];
  for (let ms = step; ms < wholeMs * 0.86; ms += step) ticks.push(ms);
  return [...ticks, wholeMs];
}

/** Output tokens a second after the first; only said where both are known and the stream lasted. */
function speed(row: LedgerRow, firstMs: number): string {
  const answeringMs = (row.latency_ms ?? 0) - firstMs;
  if (!row.stream || !row.output_tokens || row.output_tokens < 2 || answeringMs < 50) return "";
  const perSecond = Math.round((row.output_tokens - 1) / (answeringMs / 1000));
  return t`, ${plural(perSecond, { one: "# token", other: "# tokens" })} a second`;
}

/** What the kernel saw of a request's route and target while it was under way. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { LedgerRow, SeriesPoint } from "@/api/model";
import { useMay } from "@/api/session";
import { Latency } from "@/ui/Figure";
import { kernelMeanwhile } from "./queries";
import styles from "./time.module.css";

/** Marks of the kernel. They are medians of the route and target in these seconds: no connection belongs to one request. */
export function KernelLane({ row, wholeMs }: { row: LedgerRow; wholeMs: number }) {
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

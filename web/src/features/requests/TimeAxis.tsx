/** Where a request's time went, on one axis: above it what the kernel saw of its route meanwhile, below it the gateway's own clock. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import type { ReactNode } from "react";
import type { LedgerRow } from "@/api/model";
import { Latency, Unknown } from "@/ui/Figure";
import { latency } from "@/units/time";
import { AttemptLanes } from "./AttemptLanes";
import { KernelLane } from "./KernelLane";
import { type Phase, phasesOf, type Spent } from "./phases";
import styles from "./time.module.css";

export function TimeAxis({ row }: { row: LedgerRow }) {
  if (row.latency_ms === null) return <Unknown why={t`the request has not ended, or its end was not seen`} />;
  const whole = Math.max(row.latency_ms, 0.001);
  const spent = phasesOf(row, whole);
  const share = (ms: number): string => `${Math.min(100, (ms / whole) * 100)}%`;
  return (
    <div className={styles.axis}>
      <KernelLane row={row} wholeMs={whole} />
      <div className={styles.scale} aria-hidden>
        {ticksOf(whole).map((ms) => (
          <span key={ms} style={{ insetInlineStart: share(ms) }} data-end={ms / whole > 0.9 || undefined}>
            {ms === 0 ? "0" : latency(ms)}
          </span>
        ))}
      </div>
      <div className={styles.track} role="img" aria-label={said(spent, whole)}>
        {spent.map((each) => (
          <span key={each.phase} className={styles[each.phase]} style={{ width: share(each.to - each.from) }} />
        ))}
      </div>
      <dl className={styles.phases}>
        {spent.map((each) => (
          <Fact key={each.phase} phase={each.phase} name={wordOf(each.phase, row)}>
            {each.phase === "connect" && row.connect_ms === 0 ? (
              t`none: a connection was at hand`
            ) : (
              <Latency ms={each.to - each.from} />
            )}
            {each.phase === "answering" ? speed(row, each.from) : null}
          </Fact>
        ))}
        {row.admit_ms === null ? <NotRecorded row={row} /> : null}
        {row.admit_ms !== null && row.connect_ms === null ? (
          <Fact name={t`connecting`}>
            <Unknown why={t`no connection came about`} />
          </Fact>
        ) : null}
        {row.stream && row.ttft_ms !== null ? (
          <Fact name={t`longest pause`}>
            <Latency ms={row.longest_gap_ms} why={t`not recorded of this stream`} />
            {row.events === null ? null : t`, in ${plural(row.events, { one: "# event", other: "# events" })}`}
          </Fact>
        ) : null}
        {row.attempts > 1 && row.attempt_log === null ? (
          <Fact name={t`over`}>{plural(row.attempts, { one: "# attempt", other: "# attempts" })}</Fact>
        ) : null}
      </dl>
      {row.attempt_log ? <AttemptLanes row={row} attempts={row.attempt_log} share={share} /> : null}
      <p className={styles.source}>
        {row.admit_ms === null && row.attempts > 0 ? (
          <Trans>By the gateway's clock, from the request's arrival on. Waiting holds admission, connecting and failed attempts: they were not recorded apart.</Trans>
        ) : (
          <Trans>By the gateway's clock, from the request's arrival on.</Trans>
        )}
      </p>
    </div>
  );
}

function Fact({ phase, name, children }: { phase?: Phase; name: string; children: ReactNode }) {
  return (
    <div>
      <dt>
        {phase ? <i className={styles[phase]} aria-hidden /> : null} {name}
      </dt>
      <dd>{children}</dd>
    </div>
  );
}

function NotRecorded({ row }: { row: LedgerRow }) {
  const why = row.attempts === 0 ? t`nothing went upstream` : t`not recorded of this request`;
  return (
    <>
      <Fact name={t`until admitted`}>
        <Unknown why={why} />
      </Fact>
      <Fact name={t`connecting`}>
        <Unknown why={why} />
      </Fact>
    </>
  );
}

function wordOf(phase: Phase, row: LedgerRow): string {
  switch (phase) {
    case "admit":
      return t`until admitted`;
    case "failed":
      return t`failed attempts`;
    case "connect":
      return t`connecting`;
    case "waiting":
      return row.ttft_ms === null ? t`until the answer` : t`waiting for the first token`;
    case "answering":
      return t`answering`;
  }
}

/** The axis in words, for whoever does not see it. */
function said(spent: readonly Spent[], whole: number): string {
  const admitted = spent.find((each) => each.phase === "admit");
  const first = spent.find((each) => each.phase === "answering")?.from ?? whole;
  const rest = t`First token after ${latency(first)}, end after ${latency(whole)}`;
  return admitted ? t`Admitted after ${latency(admitted.to)}. ${rest}` : rest;
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

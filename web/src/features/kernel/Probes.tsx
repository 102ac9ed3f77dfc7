/** The probes themselves: what works on this node, what each program costs, and what was lost. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useEffect, useRef, useState } from "react";
import type { Telemetry } from "@/api/model";
import { Snippet } from "@/ui/Copy";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Section } from "@/ui/Page";
import { exact, share } from "@/units/count";
import { latency } from "@/units/time";
import styles from "./kernel.module.css";
import { featureOf, NAMES, remedyOf } from "./words";

export function Probes({ telemetry, updatedMs }: { telemetry: Telemetry; updatedMs: number }) {
  const features = Object.entries(telemetry.features).sort(([a], [b]) => a.localeCompare(b));
  if (features.length === 0 && telemetry.programs.length === 0) return null;
  return (
    <div className={styles.columns}>
      {features.length > 0 ? (
        <Section title={t`Probes on this node`}>
          <ul className={styles.features}>
            {features.map(([name, reason]) => (
              <Feature key={name} name={name} reason={reason} />
            ))}
          </ul>
          <Lost lost={telemetry.lost} />
        </Section>
      ) : null}
      {telemetry.programs.length > 0 ? <Programs telemetry={telemetry} updatedMs={updatedMs} /> : null}
    </div>
  );
}

function Feature({ name, reason }: { name: string; reason: string | null }) {
  const known = NAMES[name];
  const remedy = reason === null ? undefined : remedyOf(reason);
  return (
    <li>
      <div className={styles.feature}>
        <span>
          <b>{known?.title ?? name}</b>
          {known ? <span className={styles.purpose}> {known.purpose}</span> : null}
        </span>
        {reason === null ? <Mark tone="ok">{t`Works`}</Mark> : <Mark tone="warn">{t`Missing`}</Mark>}
      </div>
      {reason !== null && remedy ? (
        <div className={styles.missing}>
          <p>{reason}</p>
          <p>{remedy.words}</p>
          <Snippet text={remedy.command} what={t`what mends ${name}`} />
        </div>
      ) : null}
    </li>
  );
}

function Lost({ lost }: { lost: Telemetry["lost"] }) {
  const losses = Object.entries(lost).filter(([, count]) => count > 0);
  if (losses.length === 0) {
    return (
      <p className={styles.quiet}>
        <Mark tone="ok">{t`Nothing was lost`}</Mark> <Trans>All maps and buffers had room since the gateway's start.</Trans>
      </p>
    );
  }
  return (
    <div className={styles.quiet}>
      <Mark tone="warn">{t`Something was lost`}</Mark> <Trans>Maps and buffers had no room for these; figures are short by them.</Trans>
      <ul className={styles.losses}>
        {losses.map(([what, count]) => (
          <li key={what}>
            <code>{what}</code> <b>{exact(count)}</b>
          </li>
        ))}
      </ul>
    </div>
  );
}

interface Cost {
  program: string;
  seconds: number;
  runs: number;
  /** Of one core, in the last seconds; undefined until there are two readings. */
  part: number | undefined;
}

const COLUMNS: readonly Column<Cost>[] = [
  { id: "program", header: t`Program`, cell: (cost) => <code title={NAMES[featureOf(cost.program)]?.purpose}>{cost.program}</code> },
  { id: "runs", header: t`Runs`, number: true, hide: "phone", cell: (cost) => <Count n={cost.runs} unit={t`runs since the gateway's start`} /> },
  { id: "seconds", header: t`Run time`, number: true, hide: "phone", cell: (cost) => <span title={t`${cost.seconds} s since the gateway's start`}>{latency(cost.seconds * 1000)}</span> },
  { id: "each", header: t`A run`, number: true, cell: (cost) => (cost.runs > 0 ? `${exact(Math.round((cost.seconds / cost.runs) * 1e9))} ns` : <Unknown why={t`it has not run`} />) },
  { id: "part", header: t`Of a core`, number: true, cell: (cost) => (cost.part === undefined ? <Unknown why={t`after a few seconds of watching`} /> : share(cost.part)) },
];

function Programs({ telemetry, updatedMs }: { telemetry: Telemetry; updatedMs: number }) {
  const parts = useParts(telemetry, updatedMs);
  const rows = telemetry.programs.map(({ program, run_seconds, runs }) => ({ program, seconds: run_seconds, runs, part: parts?.[program] }));
  const whole = parts && Object.values(parts).reduce((sum, part) => sum + part, 0);
  return (
    <Section title={t`What they cost`} aside={whole === undefined ? t`measured by the kernel` : t`${share(whole)} of one core in all, over the last ${COST_S} s`}>
      <DataTable label={t`Programs in the kernel`} columns={COLUMNS} rows={rows} rowId={(cost) => cost.program} empty="" />
    </Section>
  );
}

const COST_S = 10;

interface Reading {
  atMs: number;
  seconds: Readonly<Record<string, number>>;
}

/** The share of a core that each program took in the last seconds, from the readings that this page has seen. */
function useParts(telemetry: Telemetry, updatedMs: number): Readonly<Record<string, number>> | undefined {
  const readings = useRef<Reading[]>([]);
  const [parts, setParts] = useState<Readonly<Record<string, number>>>();
  useEffect(() => {
    const now: Reading = { atMs: updatedMs, seconds: Object.fromEntries(telemetry.programs.map((each) => [each.program, each.run_seconds])) };
    readings.current = [...readings.current.filter((each) => each.atMs > updatedMs - COST_S * 1000), now];
    const first = readings.current[0];
    if (!first || now.atMs - first.atMs < 1500) return;
    const passedS = (now.atMs - first.atMs) / 1000;
    setParts(Object.fromEntries(Object.entries(now.seconds).map(([program, seconds]) => [program, Math.max(0, seconds - (first.seconds[program] ?? seconds)) / passedS])));
  }, [telemetry, updatedMs]);
  return parts;
}

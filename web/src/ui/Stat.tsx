/** A number that matters: name, value, and how it stands against the range before. */
import { t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import type { ReactNode } from "react";
import styles from "./Stat.module.css";

interface StatProps {
  name: string;
  /** undefined: still loading. */
  value: ReactNode | undefined;
  /** Below the value: a comparison, or what the number is about. */
  note?: ReactNode;
  spark?: readonly (number | null)[];
}

export function Stat({ name, value, note, spark }: StatProps) {
  return (
    <div className={styles.stat}>
      <div className={styles.name}>{name}</div>
      <div className={styles.value}>{value === undefined ? <Skeleton height={24} width={84} my={4} /> : value}</div>
      <div className={styles.note}>{note ?? " "}</div>
      {spark && spark.length > 1 ? <Spark points={spark} /> : null}
    </div>
  );
}

export function Stats({ children }: { children: ReactNode }) {
  return <div className={styles.stats}>{children}</div>;
}

/** ▲ 12 % against the range before. Without colour: more may be good or bad. */
export function Change({ now, before }: { now: number; before: number | undefined }) {
  if (before === undefined || before === 0) return <span>{t`no earlier data`}</span>;
  const change = (now - before) / before;
  const percent = Math.abs(change * 100);
  if (percent < 0.5) return <span>{t`as before`}</span>;
  const part = percent >= 1000 ? "> 1000" : Math.round(percent);
  return <span>{change > 0 ? t`▲ ${part} % against the range before` : t`▼ ${part} % against the range before`}</span>;
}

const WIDTH = 100;
const HEIGHT = 24;

function Spark({ points }: { points: readonly (number | null)[] }) {
  const top = Math.max(...points.map((p) => p ?? 0), 1e-9);
  const step = WIDTH / (points.length - 1);
  let path = "";
  let pen = "M";
  points.forEach((point, index) => {
    if (point === null) {
      pen = "M"; // a gap stays a gap
      return;
    }
    path += `${pen}${(index * step).toFixed(1)} ${(HEIGHT - 2 - (point / top) * (HEIGHT - 4)).toFixed(1)}`;
    pen = "L";
  });
  return (
    <svg className={styles.spark} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden>
      <path d={path} fill="none" stroke="currentColor" strokeWidth="1.5" vectorEffect="non-scaling-stroke" />
    </svg>
  );
}

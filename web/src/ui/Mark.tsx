/** A state: always colour with icon and word. */
import { IconAlertTriangle, IconCircleCheck, IconCircleDashed, IconCircleX, IconInfoCircle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import styles from "./Mark.module.css";

export type Tone = "ok" | "warn" | "bad" | "info" | "idle";

const ICONS = { ok: IconCircleCheck, warn: IconAlertTriangle, bad: IconCircleX, info: IconInfoCircle, idle: IconCircleDashed };

export function Mark({ tone, children, title }: { tone: Tone; children: ReactNode; title?: string }) {
  const Icon = ICONS[tone];
  return (
    <span className={styles.mark} data-tone={tone} title={title}>
      <Icon size={14} stroke={2} aria-hidden />
      {children}
    </span>
  );
}

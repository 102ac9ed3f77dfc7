/** How full a limit is: settled, reserved by requests in flight, left. */
import styles from "./Meter.module.css";

interface MeterProps {
  used: number;
  reserved: number;
  atMost: number;
  label: string;
  /** Where it will be at the window's end, at this pace: a tick, at the end where it goes beyond. */
  expected?: number;
}

export function Meter({ used, reserved, atMost, label, expected }: MeterProps) {
  const part = (amount: number): number => Math.min(100, (amount / atMost) * 100);
  const usedPart = part(used);
  const reservedPart = Math.min(100 - usedPart, part(reserved));
  const tone = used + reserved >= atMost ? "bad" : used + reserved >= atMost * 0.8 ? "warn" : "ok";
  return (
    <div
      className={styles.meter}
      data-tone={tone}
      role="meter"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={atMost}
      aria-valuenow={Math.min(atMost, used + reserved)}
    >
      <span className={styles.used} style={{ width: `${usedPart}%` }} />
      <span className={styles.reserved} style={{ width: `${reservedPart}%` }} />
      {expected !== undefined && expected > used ? <span className={styles.expected} style={{ width: `${Math.max(0, part(expected) - usedPart - reservedPart)}%` }} /> : null}
    </div>
  );
}

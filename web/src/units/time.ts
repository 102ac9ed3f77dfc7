/** Instants, durations and ages. Instants come as RFC 3339 UTC; they are shown local, with UTC on hover. */
import { t } from "@lingui/core/macro";

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayClock = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const yearClock = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

/** Latency with three significant figures: 0.42 ms, 12.3 ms, 610 ms, 1.42 s, 63.5 s. */
export function latency(ms: number): string {
  if (ms < 1000) return `${ms >= 100 ? Math.round(ms) : Number(ms.toPrecision(3))} ms`;
  if (ms < 100_000) return `${(ms / 1000).toPrecision(3)} s`;
  return span(ms / 1000);
}

/** A span in its two largest units: 4 h 12 min, 23 s, 27 d 3 h. */
export function span(seconds: number): string {
  const units = [["d", 86_400], ["h", 3600], ["min", 60], ["s", 1]] as const;
  let rest = Math.max(0, Math.round(seconds));
  const parts: string[] = [];
  for (const [name, size] of units) {
    const whole = Math.floor(rest / size);
    if (whole > 0 || (name === "s" && parts.length === 0)) parts.push(`${whole} ${name}`);
    else if (parts.length > 0) break;
    rest -= whole * size;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** "12 s ago", "3 min ago": one unit, for what has just happened. */
export function age(instant: string | number, nowMs: number): string {
  const seconds = (nowMs - new Date(instant).getTime()) / 1000;
  if (seconds < 1.5) return t`just now`;
  const passed = span(seconds).split(" ").slice(0, 2).join(" ");
  return t`${passed} ago`;
}

const sameDay = (a: Date, b: Date): boolean => a.toDateString() === b.toDateString();

/** 14:03:22 today, "Nov 21, 14:03:22" on other days, "Nov 21, 2025, 14:03" in other years. */
export function instant(value: string, nowMs: number): string {
  const date = new Date(value);
  const now = new Date(nowMs);
  const form = sameDay(date, now) ? clock : date.getFullYear() === now.getFullYear() ? dayClock : yearClock;
  return form.format(date);
}

const weekday = new Intl.DateTimeFormat(undefined, { weekday: "short", month: "short", day: "numeric" });

/** "Fri, Nov 27", for a day not far from now. */
export const dayOf = (value: string): string => weekday.format(new Date(value));

export const calendarDay = (value: string): string => day.format(new Date(value));

/** Both clocks, for the hover. */
export function bothClocks(value: string): string {
  const date = new Date(value);
  const local = date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
  return t`${local} local · ${date.toISOString().replace("T", " ").replace(".000Z", "Z")} UTC`;
}

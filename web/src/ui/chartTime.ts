/** How charts write instants: on the axis, and beside the legend for what is hovered. */

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const clockWithSeconds = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const localDay = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
// Buckets of a day are days in UTC, whatever the reader's zone.
const utcDay = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", timeZone: "UTC" });
const weekdayClock = new Intl.DateTimeFormat(undefined, { weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

/** `at` in Unix seconds, as is `bucketS`, the length of a step. */
export function tick(at: number, bucketS: number): string {
  const date = new Date(at * 1000);
  if (bucketS >= 86_400) return utcDay.format(date);
  return date.getHours() === 0 && date.getMinutes() === 0 ? localDay.format(date) : clock.format(date);
}

export function bucketName(at: number, bucketS: number): string {
  if (bucketS >= 86_400) return `${utcDay.format(at * 1000)}, UTC`;
  if (bucketS < 60) return clockWithSeconds.format(at * 1000);
  return `${weekdayClock.format(at * 1000)} – ${clock.format((at + bucketS) * 1000)}`;
}

/** An alert in words. */
import type { Alert } from "@/api/model";
import { Mark } from "@/ui/Mark";

export const KINDS = [
  { value: "exec", label: "Executed" },
  { value: "connect", label: "Connected" },
] as const;

export const kindWord = (kind: string): string => KINDS.find(({ value }) => value === kind)?.label ?? kind;

/** What was executed, or where to. */
export function whatOf(alert: Alert): string {
  if (alert.destination !== null) {
    const host = alert.destination.includes(":") ? `[${alert.destination}]` : alert.destination;
    return alert.port === null ? host : `${host}:${alert.port}`;
  }
  return alert.argv?.join(" ") || alert.executable || "unknown";
}

export const whoOf = (alert: Alert): string => alert.process ?? alert.executable ?? (alert.pid === null ? "unknown" : `process ${alert.pid}`);

export function OutcomeMark({ alert }: { alert: Alert }) {
  return alert.refused ? (
    <Mark tone="ok" title="The kernel refused it">
      Refused
    </Mark>
  ) : (
    <Mark tone="warn" title="It was let happen">
      Happened
    </Mark>
  );
}

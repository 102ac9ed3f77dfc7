/** An alert in words. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import type { Alert } from "@/api/model";
import { Mark } from "@/ui/Mark";

export const KINDS = [
  { value: "exec", label: t`Executed`, did: t`executed` },
  { value: "connect", label: t`Connected`, did: t`connected` },
] as const;

export const kindWord = (kind: string): string => KINDS.find(({ value }) => value === kind)?.label ?? kind;

/** The same within a sentence. */
export const didWord = (kind: string): string => KINDS.find(({ value }) => value === kind)?.did ?? kind;

/** What was executed, or where to. */
export function whatOf(alert: Alert): string {
  if (alert.destination !== null) {
    const host = alert.destination.includes(":") ? `[${alert.destination}]` : alert.destination;
    return alert.port === null ? host : `${host}:${alert.port}`;
  }
  return alert.argv?.join(" ") || alert.executable || t`unknown`;
}

export const whoOf = (alert: Alert): string => alert.process ?? alert.executable ?? (alert.pid === null ? t`unknown` : t`process ${alert.pid}`);

export function OutcomeMark({ alert }: { alert: Alert }) {
  return alert.refused ? (
    <Mark tone="ok" title={t`The kernel refused it`}>
      <Trans>Refused</Trans>
    </Mark>
  ) : (
    <Mark tone="warn" title={t`It was let happen`}>
      <Trans>Happened</Trans>
    </Mark>
  );
}

/** Figures as text: units always, the exact value on hover, "—" with its reason where nothing is known. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { count, exact } from "@/units/count";
import { money, moneyExact } from "@/units/money";
import { age, bothClocks, instant, latency, span } from "@/units/time";
import { useNow } from "./now";
import styles from "./Figure.module.css";

/** Nothing is known: never drawn as 0. */
export function Unknown({ why }: { why: string }) {
  return (
    <span className={styles.unknown} title={why}>
      <span aria-hidden>—</span>
      <span className="unseen">
        <Trans>unknown: {why}</Trans>
      </span>
    </span>
  );
}

interface Known {
  /** Counted by us from what was relayed, not reported by the provider. */
  estimated?: boolean;
  why?: string;
}

const about = (estimated: boolean | undefined): string => (estimated ? "≈ " : "");
const hover = (text: string, estimated: boolean | undefined): string =>
  estimated ? t`${text}, estimated: the provider reported no usage` : text;

export function Money({ micros, estimated, why = t`no price is known for this model` }: { micros: number | null | undefined } & Known) {
  if (micros === null || micros === undefined) return <Unknown why={why} />;
  return <span title={hover(moneyExact(micros), estimated)}>{about(estimated) + money(micros)}</span>;
}

export function Count({ n, unit = "", estimated, why = t`not reported` }: { n: number | null | undefined; unit?: string } & Known) {
  if (n === null || n === undefined) return <Unknown why={why} />;
  return <span title={hover(`${exact(n)} ${unit}`.trim(), estimated)}>{about(estimated) + count(n)}</span>;
}

export function Latency({ ms, why = t`not measured` }: { ms: number | null | undefined; why?: string }) {
  if (ms === null || ms === undefined) return <Unknown why={why} />;
  return <span title={`${ms.toLocaleString("en-US")} ms`}>{latency(ms)}</span>;
}

/** An instant, local; both clocks on hover. */
export function When({ at, why = t`never` }: { at: string | null | undefined; why?: string }) {
  const nowMs = useNow();
  if (!at) return <Unknown why={why} />;
  return (
    <time dateTime={at} title={bothClocks(at)}>
      {instant(at, nowMs)}
    </time>
  );
}

export function Ago({ at, why = t`never` }: { at: string | null | undefined; why?: string }) {
  const nowMs = useNow();
  if (!at) return <Unknown why={why} />;
  return (
    <time dateTime={at} title={bothClocks(at)}>
      {age(at, nowMs)}
    </time>
  );
}

/** "4 h 12 min" until an instant, counting down. */
export function Until({ at }: { at: string }) {
  const nowMs = useNow();
  return (
    <time dateTime={at} title={bothClocks(at)}>
      {span((new Date(at).getTime() - nowMs) / 1000)}
    </time>
  );
}

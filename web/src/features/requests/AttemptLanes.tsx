/** One bar for each attempt over its target, on the axis above them. */
import { plural, t } from "@lingui/core/macro";
import type { Attempt, LedgerRow } from "@/api/model";
import { latency } from "@/units/time";
import styles from "./time.module.css";

export function AttemptLanes({ row, attempts, share }: { row: LedgerRow; attempts: readonly Attempt[]; share: (ms: number) => string }) {
  const missing = row.attempts - attempts.length;
  return (
    <>
      <ol className={styles.attempts} aria-label={t`Attempts`}>
        {attempts.map((each, at) => (
          <li key={each.started_ms}>
            <span className={styles.attempt}>
              <code>{each.target}</code>
              <span>{fateOf(each, at === attempts.length - 1)}</span>
            </span>
            <Bar attempt={each} share={share} />
          </li>
        ))}
      </ol>
      {missing > 0 ? (
        <p className={styles.source}>{t`Before the last one: ${plural(missing, { one: "# more attempt", other: "# more attempts" })}, of which only the number is recorded.`}</p>
      ) : null}
    </>
  );
}

function Bar({ attempt, share }: { attempt: Attempt; share: (ms: number) => string }) {
  const connected = Math.min(attempt.connect_ms === null ? attempt.started_ms : attempt.started_ms + attempt.connect_ms, attempt.ended_ms);
  const answered = Math.max(connected, Math.min(attempt.first_byte_ms ?? attempt.ended_ms, attempt.ended_ms));
  // Without a connection all of it was connecting.
  const waiting = attempt.connect_ms === null ? styles.connect : styles.waiting;
  return (
    <span className={styles.lane} aria-hidden>
      <i className={styles.connect} style={{ insetInlineStart: share(attempt.started_ms), width: share(connected - attempt.started_ms) }} />
      <i className={waiting} style={{ insetInlineStart: share(connected), width: share(answered - connected) }} />
      <i className={styles.answering} style={{ insetInlineStart: share(answered), width: share(attempt.ended_ms - answered) }} />
    </span>
  );
}

/** What became of it, and how long it took. */
function fateOf(attempt: Attempt, last: boolean): string {
  const took = latency(attempt.ended_ms - attempt.started_ms);
  switch (attempt.error_code) {
    case null:
      return t`answered ${attempt.status ?? ""} after ${took}`;
    case "connect_failed":
      return t`no connection, after ${took}`;
    case "upstream_timeout":
      return t`no answer in time, after ${took}`;
    case "upstream_failed":
      return last && attempt.status !== null && attempt.status < 400 ? t`broke off after ${took}` : t`ended without an answer after ${took}`;
    case "client_gone":
      return t`the caller left after ${took}`;
    default:
      return attempt.status === null ? t`${attempt.error_code} after ${took}` : t`${attempt.error_code} (${attempt.status}) after ${took}`;
  }
}

/** What colours and patterns of the picture mean. */
import { t } from "@lingui/core/macro";
import styles from "./flows.module.css";

export function Legend({ past }: { past: boolean }) {
  const marks: readonly (readonly [string, string, string])[] = [
    ["through", "ok", t`healthy`],
    ["through", "slow", t`first tokens half as slow again as before`],
    ["through", "warn", t`1 % or more failed`],
    ["through", "bad", t`10 % or more failed, or refused here`],
    ...(past ? ([["past", "unknown", t`past the gateway`], ["denied", "unknown", t`denied by the kernel`]] as const) : []),
  ];
  return (
    <ul className={styles.legend} aria-label={t`Legend`}>
      {marks.map(([way, health, word]) => (
        <li key={word}>
          <svg width="26" height="12" aria-hidden>
            <line x1="1" x2="25" y1="6" y2="6" strokeWidth={way === "denied" ? 3 : 9} data-way={way} data-health={health} />
          </svg>
          {word}
        </li>
      ))}
    </ul>
  );
}

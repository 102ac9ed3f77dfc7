/** Budgets burning down: how full each is, and where it will be at this pace. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import type { LimitNear } from "@/api/model";
import { amount, bare } from "@/features/limits/amount";
import { Unknown, Until } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Meter } from "@/ui/Meter";
import { Section } from "@/ui/Page";
import { share } from "@/units/count";
import { bothClocks, dayOf } from "@/units/time";
import { per } from "@/units/words";
import styles from "./overview.module.css";

/** `failed`: why there are no `limits`, and will be none. */
export function Budgets({ limits, failed }: { limits: readonly LimitNear[] | undefined; failed: Error | null }) {
  return (
    <Section title={t`Budgets and limits`} aside={<Link to="/limits">{t`All limits`}</Link>}>
      {limits === undefined ? (
        failed ? (
          <p className={`${styles.quiet} ${styles.panel}`}>
            <Unknown why={failed.message} />
          </p>
        ) : (
          <Skeleton height={160} radius={8} />
        )
      ) : null}
      {limits?.length === 0 ? <p className={`${styles.quiet} ${styles.panel}`}>{t`No limit of an hour or longer: nothing bounds what apps may spend.`}</p> : null}
      {limits && limits.length > 0 ? (
        <ul className={styles.budgets} aria-label={t`Budgets and limits`}>
          {limits.map((limit) => (
            <Budget key={limit.name} limit={limit} />
          ))}
        </ul>
      ) : null}
    </Section>
  );
}

function Budget({ limit }: { limit: LimitNear }) {
  const filled = limit.used / limit.at_most;
  return (
    <li className={styles.budget}>
      <div className={styles.budgetHead}>
        <span className={styles.budgetName}>{limit.name}</span>
        <span>
          <b>{bare(limit.metric, limit.used)}</b> {t`of ${per(amount(limit.metric, limit.at_most), limit.window)}`}
        </span>
      </div>
      <Meter used={limit.used} reserved={0} atMost={limit.at_most} label={t`${limit.name}: ${share(filled)} used`} {...(limit.expected === null ? {} : { expected: limit.expected })} />
      <div className={styles.budgetFoot}>
        <Ahead limit={limit} filled={filled} />
        <span>
          {limit.resets_at ? (
            <Trans>
              resets in <Until at={limit.resets_at} />
            </Trans>
          ) : (
            t`never resets`
          )}
        </span>
      </div>
    </li>
  );
}

function Ahead({ limit, filled }: { limit: LimitNear; filled: number }) {
  if (filled >= 1) return <Mark tone="bad">{t`Used up: refusing`}</Mark>;
  if (limit.gone_at) {
    const day = dayOf(limit.gone_at);
    return (
      <Mark tone={filled >= 0.8 ? "bad" : "warn"} title={bothClocks(limit.gone_at)}>
        {t`Gone ${day} at this pace`}
      </Mark>
    );
  }
  if (limit.expected !== null && limit.resets_at) return <span>{t`≈ ${share(limit.expected / limit.at_most)} by its end, at this pace`}</span>;
  return <span>{limit.resets_at ? t`${share(filled)} gone, too early to foretell` : t`${share(filled)} gone`}</span>;
}

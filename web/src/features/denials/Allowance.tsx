/** What of a denial's limit is used in the present window, and when that ends. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import type { Denial } from "@/api/model";
import { Unknown, Until } from "@/ui/Figure";
import { Meter } from "@/ui/Meter";
import styles from "./denials.module.css";
import { limitOf } from "./words";

export function Allowance({ denial, wide = false }: { denial: Denial; wide?: boolean }) {
  const limit = limitOf(denial);
  if (!limit) return <span className={styles.quiet}><Trans>nothing may pass</Trans></span>;
  const { used } = denial;
  return (
    <span className={styles.allowance} data-wide={wide} title={limit.words}>
      <Meter used={used ?? 0} reserved={0} atMost={limit.most} label={t`Used of ${limit.words}`} />
      <span>
        {used === null ? <Unknown why={denial.reason ?? t`the kernel has not said yet`} /> : limit.amount(used)} <Trans>of</Trans> {limit.words}
        {wide && denial.resets_at ? (
          <span className={styles.resets}>
            <Trans>, resets in</Trans> <Until at={denial.resets_at} />
          </span>
        ) : null}
      </span>
    </span>
  );
}

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
  if (!limit) return <span className={styles.quiet}>{t`nothing may pass`}</span>;
  const used = denial.used === null ? <Unknown why={denial.reason ?? t`the kernel has not said yet`} /> : limit.amount(denial.used);
  return (
    <span className={styles.allowance} data-wide={wide} title={limit.words}>
      <Meter used={denial.used ?? 0} reserved={0} atMost={limit.most} label={t`Used of ${limit.words}`} />
      <span>
        <Trans>
          {used} of {limit.words}
        </Trans>
        {wide && denial.resets_at ? (
          <span className={styles.resets}>
            <Trans>
              , resets in <Until at={denial.resets_at} />
            </Trans>
          </span>
        ) : null}
      </span>
    </span>
  );
}

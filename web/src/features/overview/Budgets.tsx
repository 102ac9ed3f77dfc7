/** The limits nearest to their end. */
import { t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import { useQueries, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { LimitRow } from "@/features/limits/LimitRow";
import limitStyles from "@/features/limits/limits.module.css";
import { limitsQuery, limitStateQuery } from "@/features/limits/queries";
import { Problem } from "@/ui/Answer";
import { Section } from "@/ui/Page";
import styles from "./overview.module.css";

const SHOWN = 4;
/** Asking the state of more than these would cost more than the overview is worth; the page of limits has them all. */
const ASKED = 12;

export function Budgets() {
  const limits = useQuery(limitsQuery);
  const asked = limits.data?.slice(0, ASKED) ?? [];
  const states = useQueries({ queries: asked.map((limit) => limitStateQuery(limit.name)) });
  const filled = (index: number): number => {
    const state = states[index]?.data;
    return state ? (Number(state.used) + Number(state.reserved)) / Number(state.at_most) : -1;
  };
  const nearest = asked
    .map((limit, index) => ({ limit, filled: filled(index) }))
    .sort((a, b) => b.filled - a.filled)
    .slice(0, SHOWN);
  return (
    <Section title={t`Limits nearest to their end`} aside={<Link to="/limits">{t`All limits`}</Link>}>
      {limits.error ? <Problem error={limits.error} /> : null}
      {limits.isPending ? <Skeleton height={160} radius={8} /> : null}
      {limits.data?.length === 0 ? <p className={styles.quiet}>{t`No limits: nothing bounds what apps may spend.`}</p> : null}
      {nearest.length > 0 ? (
        <ul className={limitStyles.limits} aria-label={t`Limits nearest to their end`}>
          {nearest.map(({ limit }) => (
            <LimitRow key={limit.id} limit={limit} />
          ))}
        </ul>
      ) : null}
    </Section>
  );
}

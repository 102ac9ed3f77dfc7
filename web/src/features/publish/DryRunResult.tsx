/** What the last hour's requests would have met: figures first, then why, then what nobody can know. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { Problem } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Mark, type Tone } from "@/ui/Mark";
import { Stat, Stats } from "@/ui/Stat";
import { Told } from "@/ui/Told";
import { exact } from "@/units/count";
import { instant } from "@/units/time";
import type { DryRun } from "./queries";
import styles from "./publish.module.css";

type Finding = DryRun["findings"][number];

const EFFECTS: Readonly<Record<Finding["effect"], { tone: Tone; word: string }>> = {
  no_access: { tone: "bad", word: t`No access` },
  no_route: { tone: "bad", word: t`No such route` },
  limited: { tone: "bad", word: t`Limit` },
  other_target: { tone: "warn", word: t`Other target` },
  other_route: { tone: "warn", word: t`Other route` },
};

export function DryRunResult({ result, error, again }: { result: DryRun | undefined; error: unknown; again: () => void }) {
  if (error) return <Problem error={error} again={again} />;
  if (!result) return <Skeleton height={120} />;
  const expected = result.findings.filter((each) => each.effect === "other_target" && !each.certain).reduce((sum, each) => sum + each.requests, 0);
  return (
    <>
      <Stats>
        <Stat name={t`Would now be refused`} value={<Alarming n={result.refused} />} note={plural(result.refused, { one: "request that was served", other: "requests that were served" })} />
        <Stat name={t`Would go elsewhere`} value={exact(result.rerouted)} note={expected > 0 ? t`and ≈ ${exact(expected)} more by other weights` : t`to another target or route`} />
        <Stat name={t`Judged`} value={exact(result.judged)} note={t`of ${exact(result.requests)} since ${instant(result.since, Date.parse(result.until))}`} />
      </Stats>
      {result.requests === 0 ? (
        <p className={styles.quiet}>
          <Trans>Nothing was asked of the gateway in that time: there is nothing to try the change on.</Trans>
        </p>
      ) : result.findings.length === 0 ? (
        <p className={styles.quiet}>
          <Trans>Every request that was judged would fare as it did.</Trans>
        </p>
      ) : (
        <DataTable label={t`What would be different`} columns={COLUMNS} rows={result.findings} rowId={(each) => each.effect + each.what} empty={null} />
      )}
      <ul className={styles.notes}>
        {result.whole ? null : (
          <li>
            <Trans>There were more requests: the newest {exact(result.requests)} were tried.</Trans>
          </li>
        )}
        {result.unjudged.map((each) => (
          <li key={each.reason}>
            <Trans>
              {exact(each.requests)} not judged: <Told>{each.reason}</Told>.
            </Trans>
          </li>
        ))}
        {result.notes.map((note) => (
          <li key={note} lang="en">
            {note}
          </li>
        ))}
      </ul>
    </>
  );
}

/** "17 requests would now be refused", for buttons and questions. */
export function refusalWords(result: DryRun | undefined): string {
  if (!result) return t`Not tried on the last hour's requests yet.`;
  if (result.requests === 0) return t`There were no requests in the last hour to try it on.`;
  if (result.refused === 0) return t`Of the last hour's requests, none that was served would be refused.`;
  return plural(result.refused, { one: "# request of the last hour would now be refused.", other: "# requests of the last hour would now be refused." });
}

const Alarming = ({ n }: { n: number }) => (n > 0 ? <span className={styles.alarming}>{exact(n)}</span> : <span>0</span>);

const COLUMNS: readonly Column<Finding>[] = [
  { id: "effect", header: t`Effect`, width: "136px", cell: (each) => <Mark tone={EFFECTS[each.effect].tone}>{EFFECTS[each.effect].word}</Mark> },
  { id: "what", header: t`Why`, cell: (each) => <Told>{each.what}</Told> },
  { id: "apps", header: t`Apps`, hide: "phone", cell: (each) => each.apps.join(", ") + (each.more_apps > 0 ? t` and ${each.more_apps} more` : "") },
  {
    id: "requests",
    header: t`Requests`,
    number: true,
    cell: (each) => <span title={each.certain ? t`counted` : t`an expectation: see the notes below`}>{(each.certain ? "" : "≈ ") + exact(each.requests)}</span>,
  },
  {
    id: "example",
    header: t`Example`,
    hide: "tablet",
    cell: (each) =>
      each.example ? (
        <Link to="/requests/$id" params={{ id: each.example }}>
          <Trans>one of them</Trans>
        </Link>
      ) : (
        ""
      ),
  },
];

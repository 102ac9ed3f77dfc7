/** What would change, entry by entry: in words, and on demand as YAML side by side. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useState } from "react";
import { Problem } from "@/ui/Answer";
import { Ago } from "@/ui/Figure";
import { Mark, type Tone } from "@/ui/Mark";
import { Told } from "@/ui/Told";
import { takeBack, type Difference } from "./queries";
import styles from "./publish.module.css";

const SideBySide = lazy(() => import("./SideBySide"));

const DEEDS: Readonly<Record<Difference["action"], { tone: Tone; word: string }>> = {
  create: { tone: "ok", word: t`Added` },
  update: { tone: "info", word: t`Changed` },
  delete: { tone: "bad", word: t`Removed` },
};

export function DifferenceList({ differences, canTakeBack = false }: { differences: readonly Difference[]; canTakeBack?: boolean }) {
  return (
    <ul className={styles.differences}>
      {differences.map((each) => (
        <OneDifference key={`${each.kind} ${each.name}`} difference={each} canTakeBack={canTakeBack} />
      ))}
    </ul>
  );
}

function OneDifference({ difference, canTakeBack }: { difference: Difference; canTakeBack: boolean }) {
  const { action, kind, name, words, before, after, author } = difference;
  const [open, setOpen] = useState(false);
  const queries = useQueryClient();
  const taking = useMutation({
    mutationFn: () => takeBack(kind, name),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["draft"] }),
  });
  const { tone, word } = DEEDS[action];
  return (
    <li className={styles.difference}>
      <div className={styles.differenceHead}>
        <Mark tone={tone}>{word}</Mark>
        <span className={styles.named}>
          <Told>{kind}</Told> <code>{name}</code>
        </span>
        {author ? (
          <span className={styles.author}>
            <Trans>
              by {author.actor.replace(/^user:/, "")}, <Ago at={author.at} />
            </Trans>
          </span>
        ) : null}
        <span className={styles.room} />
        <Button size="compact-xs" variant="subtle" color="gray" onClick={() => setOpen(!open)} aria-expanded={open} aria-label={open ? t`Hide YAML of ${kind} ${name}` : t`Show YAML of ${kind} ${name}`}>
          {open ? <Trans>Hide YAML</Trans> : <Trans>Show YAML</Trans>}
        </Button>
        {canTakeBack && kind !== "key" ? (
          <Button size="compact-xs" variant="subtle" color="gray" loading={taking.isPending} onClick={() => taking.mutate()} aria-label={t`Take back ${kind} ${name}`}>
            <Trans>Take back</Trans>
          </Button>
        ) : null}
      </div>
      {words.length > 0 ? (
        <ul className={styles.words}>
          {words.map((line) => (
            <li key={line} lang="en">
              {line}
            </li>
          ))}
        </ul>
      ) : null}
      {taking.error ? <Problem error={taking.error} /> : null}
      {open ? (
        <Suspense>
          <SideBySide before={before ?? ""} after={after ?? ""} label={t`YAML of ${kind} ${name}`} />
        </Suspense>
      ) : null}
    </li>
  );
}

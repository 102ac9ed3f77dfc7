/** Two texts beside each other, line by line; on narrow screens one under the other. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { diffLines } from "diff";
import { useMemo } from "react";
import styles from "./publish.module.css";

interface Line {
  number: number;
  text: string;
}

interface Row {
  kind: "same" | "changed" | "gap";
  left: Line | undefined;
  right: Line | undefined;
}

/** Unchanged lines that are shown around a change. */
const AROUND = 3;

export default function SideBySide({ before, after, label, whole = false }: { before: string; after: string; label: string; whole?: boolean }) {
  const rows = useMemo(() => rowsOf(before, after, whole), [before, after, whole]);
  return (
    <div className={styles.sides} role="group" aria-label={label} tabIndex={0}>
      <table className={styles.sideTable}>
        <colgroup>
          <col className={styles.numbers} />
          <col />
          <col className={styles.numbers} />
          <col />
        </colgroup>
        <thead>
          <tr>
            <th scope="col" colSpan={2}>
              <Trans>As it is</Trans>
            </th>
            <th scope="col" colSpan={2}>
              <Trans>As it would be</Trans>
            </th>
          </tr>
        </thead>
        <tbody>
          {rows.map((row, index) =>
            row.kind === "gap" ? (
              <tr key={index} className={styles.skipped}>
                <td colSpan={4}>⋯</td>
              </tr>
            ) : (
              <tr key={index} data-kind={row.kind}>
                <Half line={row.left} sign={row.kind === "changed" ? "−" : ""} />
                <Half line={row.right} sign={row.kind === "changed" ? "+" : ""} />
              </tr>
            ),
          )}
        </tbody>
      </table>
    </div>
  );
}

function Half({ line, sign }: { line: Line | undefined; sign: "" | "+" | "−" }) {
  return (
    <>
      <td className={styles.lineNumber}>{line?.number}</td>
      <td className={styles.lineText} data-sign={line ? sign : undefined}>
        {line && sign ? <span className="unseen">{sign === "+" ? t`added: ` : t`taken away: `}</span> : null}
        {line?.text}
      </td>
    </>
  );
}

function rowsOf(before: string, after: string, whole: boolean): Row[] {
  const rows: Row[] = [];
  let left = 1;
  let right = 1;
  const parts = diffLines(before, after);
  for (let at = 0; at < parts.length; at += 1) {
    const part = parts[at]!;
    const lines = linesOf(part.value);
    if (!part.added && !part.removed) {
      for (const text of lines) rows.push({ kind: "same", left: { number: left++, text }, right: { number: right++, text } });
      continue;
    }
    const next = parts[at + 1];
    const gone = part.removed ? lines : [];
    const come = part.added ? lines : next?.added ? linesOf(next.value) : [];
    if (part.removed && next?.added) at += 1;
    for (let index = 0; index < Math.max(gone.length, come.length); index += 1) {
      const was = gone[index];
      const is = come[index];
      rows.push({
        kind: "changed",
        left: was === undefined ? undefined : { number: left++, text: was },
        right: is === undefined ? undefined : { number: right++, text: is },
      });
    }
  }
  return whole ? rows : folded(rows);
}

const linesOf = (text: string): string[] => text.replace(/\n$/, "").split("\n");

/** Without the unchanged lines that are far from any change. */
function folded(rows: readonly Row[]): Row[] {
  const near = rows.map((_, index) => rows.slice(Math.max(0, index - AROUND), index + AROUND + 1).some((row) => row.kind === "changed"));
  const kept: Row[] = [];
  rows.forEach((row, index) => {
    if (near[index]) kept.push(row);
    else if (kept.at(-1)?.kind !== "gap") kept.push({ kind: "gap", left: undefined, right: undefined });
  });
  return kept;
}

/** Values beside each other, to be chosen from: before, mine, theirs. */
import { t } from "@lingui/core/macro";
import type { ReactNode } from "react";
import styles from "./Sides.module.css";

export interface Side {
  title: string;
  value: unknown;
  action?: ReactNode;
}

export function Sides({ sides }: { sides: readonly Side[] }) {
  return (
    <div className={styles.sides}>
      {sides.map((side) => (
        <div key={side.title} className={styles.side} role="group" aria-label={side.title}>
          <h3>{side.title}</h3>
          <pre tabIndex={0}>{written(side.value)}</pre>
          {side.action}
        </div>
      ))}
    </div>
  );
}

/** A value as YAML would write it, near enough to be compared. */
export function written(value: unknown, indent = ""): string {
  if (value === null || value === undefined) return t`(not set)`;
  if (Array.isArray(value)) return value.length === 0 ? "[]" : value.map((each) => `${indent}- ${written(each, `${indent}  `).trimStart()}`).join("\n");
  if (typeof value === "object") {
    return Object.entries(value)
      .map(([name, each]) => `${indent}${name}:${typeof each === "object" && each !== null ? `\n${written(each, `${indent}  `)}` : ` ${written(each)}`}`)
      .join("\n");
  }
  return String(value);
}

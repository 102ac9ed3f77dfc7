/** JSON to be folded and unfolded: long lists and what lies deep wait for a click. */
import { plural } from "@lingui/core/macro";
import type { Json } from "./bodyText";
import styles from "./bodies.module.css";

const OPEN_LEVELS = 6;
const OPEN_ENTRIES = 30;

export function JsonTree({ value, label }: { value: Json; label: string }) {
  return (
    <div className={styles.tree} role="group" aria-label={label} tabIndex={0}>
      <Node value={value} level={0} />
    </div>
  );
}

function Node({ name, value, level }: { name?: string; value: Json; level: number }) {
  if (typeof value !== "object" || value === null) {
    return (
      <div className={styles.leaf}>
        <Name name={name} />
        <Plain value={value} />
      </div>
    );
  }
  const list = Array.isArray(value);
  const entries = Object.entries(value as Readonly<Record<string, Json>>);
  const size = list ? plural(entries.length, { one: "# entry", other: "# entries" }) : plural(entries.length, { one: "# member", other: "# members" });
  return (
    <details className={styles.node} open={level < OPEN_LEVELS && entries.length <= OPEN_ENTRIES}>
      <summary>
        <Name name={name} />
        <span className={styles.size}>{list ? `[${size}]` : `{${size}}`}</span>
      </summary>
      <div className={styles.inner}>
        {entries.map(([key, each]) => (
          <Node key={key} name={key} value={each} level={level + 1} />
        ))}
      </div>
    </details>
  );
}

function Name({ name }: { name: string | undefined }) {
  return name === undefined ? null : <span className={styles.name}>{name}</span>;
}

function Plain({ value }: { value: null | boolean | number | string }) {
  return typeof value === "string" ? (
    <span className={styles.text} dir="auto">
      {value}
    </span>
  ) : (
    <code className={styles.number}>{String(value)}</code>
  );
}

/** A part of a form that most leave as it is: closed until it is asked for, or something in it is wrong. */
import { useEffect, useState, type ReactNode } from "react";
import styles from "./More.module.css";
import { useWrong } from "./wrong";

interface MoreProps {
  title: ReactNode;
  /** As the server names the fields in it. */
  fields: readonly string[];
  open?: boolean;
  children: ReactNode;
}

export function More({ title, fields, open = false, children }: MoreProps) {
  const [shown, setShown] = useState(open);
  const wrong = useWrong()(...fields);
  useEffect(() => {
    if (wrong !== undefined) setShown(true);
  }, [wrong]);
  return (
    <details className={styles.more} open={shown} onToggle={(event) => setShown(event.currentTarget.open)}>
      <summary>{title}</summary>
      <div className={styles.fields}>{children}</div>
    </details>
  );
}

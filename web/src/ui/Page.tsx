/** A page: its title, one line saying what it answers, its primary action, and what stands below. */
import { useEffect, type ReactNode } from "react";
import styles from "./Page.module.css";

interface PageProps {
  title: string;
  line: string;
  action?: ReactNode;
  /** The content takes the height that is left and scrolls inside itself (long tables). */
  fill?: boolean;
  children: ReactNode;
}

export function Page({ title, line, action, fill = false, children }: PageProps) {
  useEffect(() => {
    document.title = `${title} · Sluicegate`;
  }, [title]);
  return (
    <div className={fill ? `${styles.page} ${styles.fill}` : styles.page}>
      <header className={styles.head}>
        <div>
          <h1>{title}</h1>
          <p className={styles.line}>{line}</p>
        </div>
        {action ? <div className={styles.action}>{action}</div> : null}
      </header>
      {children}
    </div>
  );
}

/** A part of a page under its own heading. */
export function Section({ title, aside, children }: { title: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <section className={styles.section} aria-label={title}>
      <div className={styles.sectionHead}>
        <h2>{title}</h2>
        {aside ? <div className={styles.aside}>{aside}</div> : null}
      </div>
      {children}
    </section>
  );
}

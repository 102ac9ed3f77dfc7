/** One of the three steps: its number or a tick, what it is about, and what is done in it once it is its turn. */
import { t } from "@lingui/core/macro";
import { IconCheck } from "@tabler/icons-react";
import { useEffect, useRef, type ReactNode } from "react";
import styles from "./start.module.css";

interface StepProps {
  number: number;
  title: string;
  /** What came of it, once it is done. */
  done: ReactNode | undefined;
  /** What goes on by itself. */
  note?: string | undefined;
  open: boolean;
  children: ReactNode;
}

export function Step({ number, title, done, note, open, children }: StepProps) {
  const state = done !== undefined ? t`done` : open ? t`now` : t`later`;
  const content = useRef<HTMLDivElement>(null);
  const wasOpen = useRef(open);
  useEffect(() => {
    // Who has just done the step before goes on without reaching for the mouse.
    if (open && !wasOpen.current) content.current?.querySelector<HTMLElement>("[data-first]")?.focus();
    wasOpen.current = open;
  }, [open]);
  return (
    <li className={styles.step} data-open={open || undefined} data-done={done !== undefined || undefined} aria-current={open ? "step" : undefined}>
      <span className={styles.number} aria-hidden>
        {done !== undefined ? <IconCheck size={16} stroke={2.4} /> : number}
      </span>
      <div className={styles.content} ref={content}>
        <h2>
          {title} <span className="unseen">({state})</span>
        </h2>
        {done !== undefined ? <div className={styles.outcome}>{done}</div> : null}
        {note !== undefined ? (
          <div className={styles.outcome} role="status">
            {note}
          </div>
        ) : null}
        {open ? children : null}
      </div>
    </li>
  );
}

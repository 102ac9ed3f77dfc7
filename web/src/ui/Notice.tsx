/** Something to know that is no error: what is missing here, why, and what to do about it. */
import { t } from "@lingui/core/macro";
import { IconInfoCircle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { Snippet } from "./Copy";
import styles from "./Notice.module.css";

interface NoticeProps {
  title: string;
  children?: ReactNode;
  /** A command that helps. */
  snippet?: string;
}

export function Notice({ title, children, snippet }: NoticeProps) {
  return (
    <div className={styles.notice} role="note">
      <IconInfoCircle size={18} aria-hidden />
      <div className={styles.text}>
        <p className={styles.title}>{title}</p>
        {children}
      </div>
      {snippet ? (
        <div className={styles.snippet}>
          <Snippet text={snippet} what={t`command`} />
        </div>
      ) : null}
    </div>
  );
}

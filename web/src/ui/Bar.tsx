/** A line above every page: what is to be known wherever one is, and what can be done about it. */
import type { ReactNode } from "react";
import styles from "./Bar.module.css";

interface BarProps {
  tone: "info" | "bad";
  icon: ReactNode;
  /** A button or a link. */
  deed: ReactNode;
  /** What is left out where there is no room is marked `data-aside`. */
  children: ReactNode;
}

export function Bar({ tone, icon, deed, children }: BarProps) {
  return (
    <div className={styles.bar} data-tone={tone} role={tone === "bad" ? "alert" : "status"}>
      {icon}
      <span>{children}</span>
      {deed}
    </div>
  );
}

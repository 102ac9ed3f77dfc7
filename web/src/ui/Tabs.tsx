/** Pages that belong together, one of them open. */
import { Link, type LinkProps } from "@tanstack/react-router";
import styles from "./Tabs.module.css";

export interface Tab {
  to: NonNullable<LinkProps["to"]>;
  label: string;
}

export function Tabs({ label, tabs, here }: { label: string; tabs: readonly Tab[]; here: string }) {
  return (
    <nav className={styles.tabs} aria-label={label}>
      {tabs.map((tab) => (
        <Link key={tab.to} to={tab.to} className={styles.tab} data-here={tab.to === here} {...(tab.to === here ? { "aria-current": "page" as const } : {})}>
          {tab.label}
        </Link>
      ))}
    </nav>
  );
}

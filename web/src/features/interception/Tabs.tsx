/** What is caught, by whose certificate, and what became of it, page by page. */
import { t } from "@lingui/core/macro";
import { Link } from "@tanstack/react-router";
import styles from "./Tabs.module.css";

const TABS = [
  { to: "/interception", label: t`Rules` },
  { to: "/interception/connections", label: t`Connections` },
  { to: "/interception/authority", label: t`Certificate authority` },
] as const;

export function Tabs({ here }: { here: (typeof TABS)[number]["to"] }) {
  return (
    <nav className={styles.tabs} aria-label={t`Interception`}>
      {TABS.map(({ to, label }) => (
        <Link key={to} to={to} className={styles.tab} data-here={to === here} {...(to === here ? { "aria-current": "page" as const } : {})}>
          {label}
        </Link>
      ))}
    </nav>
  );
}

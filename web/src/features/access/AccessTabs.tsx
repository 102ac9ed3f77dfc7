/** Requests, and what people were told. */
import { t } from "@lingui/core/macro";
import { Link } from "@tanstack/react-router";
import styles from "@/features/discoveries/Tabs.module.css";

const TABS = [
  { to: "/access-requests", label: t`Requests` },
  { to: "/access-requests/notices", label: t`Notices` },
] as const;

export function AccessTabs({ here }: { here: (typeof TABS)[number]["to"] }) {
  return (
    <nav className={styles.tabs} aria-label={t`Access requests`}>
      {TABS.map(({ to, label }) => (
        <Link key={to} to={to} className={styles.tab} data-here={to === here} {...(to === here ? { "aria-current": "page" as const } : {})}>
          {label}
        </Link>
      ))}
    </nav>
  );
}

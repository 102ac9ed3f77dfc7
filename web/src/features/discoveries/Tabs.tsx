/** What the kernel sees and does past the gateway, page by page. */
import { t } from "@lingui/core/macro";
import { Link } from "@tanstack/react-router";
import styles from "./Tabs.module.css";

const TABS = [
  { to: "/discoveries", label: t`Findings` },
  { to: "/discoveries/denials", label: t`Denials` },
  { to: "/discoveries/alerts", label: t`Alerts` },
  { to: "/discoveries/tls", label: t`Inside TLS` },
] as const;

export function Tabs({ here }: { here: (typeof TABS)[number]["to"] }) {
  return (
    <nav className={styles.tabs} aria-label={t`Discovery`}>
      {TABS.map(({ to, label }) => (
        <Link key={to} to={to} className={styles.tab} data-here={to === here} {...(to === here ? { "aria-current": "page" as const } : {})}>
          {label}
        </Link>
      ))}
    </nav>
  );
}

/** What the kernel sees and does past the gateway, page by page. */
import { Link } from "@tanstack/react-router";
import styles from "./Tabs.module.css";

const TABS = [
  { to: "/discoveries", label: "Findings" },
  { to: "/discoveries/denials", label: "Denials" },
  { to: "/discoveries/alerts", label: "Alerts" },
  { to: "/discoveries/tls", label: "Inside TLS" },
] as const;

export function Tabs({ here }: { here: (typeof TABS)[number]["to"] }) {
  return (
    <nav className={styles.tabs} aria-label="Discovery">
      {TABS.map(({ to, label }) => (
        <Link key={to} to={to} className={styles.tab} data-here={to === here} {...(to === here ? { "aria-current": "page" as const } : {})}>
          {label}
        </Link>
      ))}
    </nav>
  );
}

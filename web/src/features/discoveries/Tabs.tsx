/** What the kernel sees and does past the gateway, page by page. */
import { t } from "@lingui/core/macro";
import { Tabs as Pages } from "@/ui/Tabs";

const TABS = [
  { to: "/discoveries", label: t`Findings` },
  { to: "/discoveries/denials", label: t`Denials` },
  { to: "/discoveries/alerts", label: t`Alerts` },
  { to: "/discoveries/tls", label: t`Inside TLS` },
] as const;

export const Tabs = ({ here }: { here: (typeof TABS)[number]["to"] }) => <Pages label={t`Discovery`} tabs={TABS} here={here} />;

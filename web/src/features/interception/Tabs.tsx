/** What is caught, by whose certificate, and what became of it, page by page. */
import { t } from "@lingui/core/macro";
import { Tabs as Bar } from "@/ui/Tabs";

const TABS = [
  { to: "/interception", label: t`Rules` },
  { to: "/interception/connections", label: t`Connections` },
  { to: "/interception/authority", label: t`Certificate authority` },
] as const;

export const Tabs = ({ here }: { here: (typeof TABS)[number]["to"] }) => <Bar label={t`Interception`} tabs={TABS} here={here} />;

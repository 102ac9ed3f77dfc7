/** Requests, and what people were told. */
import { t } from "@lingui/core/macro";
import { Tabs } from "@/ui/Tabs";

const TABS = [
  { to: "/access-requests", label: t`Requests` },
  { to: "/access-requests/notices", label: t`Notices` },
] as const;

export const AccessTabs = ({ here }: { here: (typeof TABS)[number]["to"] }) => <Tabs label={t`Access requests`} tabs={TABS} here={here} />;

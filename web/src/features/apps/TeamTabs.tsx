/** Apps with their keys, and the teams that they are of. */
import { t } from "@lingui/core/macro";
import { Tabs } from "@/ui/Tabs";

const TABS = [
  { to: "/apps", label: t`Apps` },
  { to: "/teams", label: t`Teams` },
] as const;

export const TeamTabs = ({ here }: { here: (typeof TABS)[number]["to"] }) => <Tabs label={t`Teams & keys`} tabs={TABS} here={here} />;

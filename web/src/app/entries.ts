/** The pages that exist, as the side navigation and the command palette list them. */
import { t } from "@lingui/core/macro";
import { IconApps, IconChartAreaLine, IconCpu, IconGauge, IconKey, IconListDetails, IconPlugConnected, IconRadar2, IconRoute, IconUsers } from "@tabler/icons-react";
import { IconScript } from "@tabler/icons-react";
import type { Permission } from "@/api/model";

export interface Entry {
  to: "/" | "/requests" | "/kernel" | "/discoveries" | "/limits" | "/routes" | "/providers" | "/apps" | "/users" | "/tokens" | "/audit";
  label: string;
  icon: typeof IconApps;
  group: "Observe" | "Govern" | "Admin";
  needs: Permission;
}

export const ENTRIES: readonly Entry[] = [
  { to: "/", label: t`Overview`, icon: IconChartAreaLine, group: "Observe", needs: "usage:read" },
  { to: "/requests", label: t`Requests`, icon: IconListDetails, group: "Observe", needs: "usage:read" },
  { to: "/discoveries", label: t`Discovery`, icon: IconRadar2, group: "Observe", needs: "configuration:read" },
  { to: "/kernel", label: t`Kernel`, icon: IconCpu, group: "Observe", needs: "usage:read" },
  { to: "/routes", label: t`Routes`, icon: IconRoute, group: "Govern", needs: "services:read" },
  { to: "/providers", label: t`Providers`, icon: IconPlugConnected, group: "Govern", needs: "configuration:read" },
  { to: "/apps", label: t`Teams & keys`, icon: IconApps, group: "Govern", needs: "services:read" },
  { to: "/limits", label: t`Limits`, icon: IconGauge, group: "Govern", needs: "services:read" },
  { to: "/users", label: t`Users`, icon: IconUsers, group: "Admin", needs: "members" },
  { to: "/tokens", label: t`Tokens`, icon: IconKey, group: "Admin", needs: "members" },
  { to: "/audit", label: t`Audit`, icon: IconScript, group: "Admin", needs: "audit:read" },
];

export const entriesFor = (may: (permission: Permission) => boolean): readonly Entry[] => ENTRIES.filter((entry) => may(entry.needs));

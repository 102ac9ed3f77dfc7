/** The pages that exist, as the side navigation and the command palette list them. */
import { IconApps, IconChartAreaLine, IconCpu, IconGauge, IconKey, IconListDetails, IconPlugConnected, IconRadar2, IconRoute, IconUsers } from "@tabler/icons-react";
import type { Permission } from "@/api/model";

export interface Entry {
  to: "/" | "/requests" | "/kernel" | "/discoveries" | "/limits" | "/routes" | "/providers" | "/apps" | "/users" | "/tokens";
  label: string;
  icon: typeof IconApps;
  group: "Observe" | "Govern" | "Admin";
  needs: Permission;
}

export const ENTRIES: readonly Entry[] = [
  { to: "/", label: "Overview", icon: IconChartAreaLine, group: "Observe", needs: "usage:read" },
  { to: "/requests", label: "Requests", icon: IconListDetails, group: "Observe", needs: "usage:read" },
  { to: "/discoveries", label: "Discovery", icon: IconRadar2, group: "Observe", needs: "configuration:read" },
  { to: "/kernel", label: "Kernel", icon: IconCpu, group: "Observe", needs: "usage:read" },
  { to: "/routes", label: "Routes", icon: IconRoute, group: "Govern", needs: "services:read" },
  { to: "/providers", label: "Providers", icon: IconPlugConnected, group: "Govern", needs: "configuration:read" },
  { to: "/apps", label: "Teams & keys", icon: IconApps, group: "Govern", needs: "services:read" },
  { to: "/limits", label: "Limits", icon: IconGauge, group: "Govern", needs: "services:read" },
  { to: "/users", label: "Users", icon: IconUsers, group: "Admin", needs: "members" },
  { to: "/tokens", label: "Tokens", icon: IconKey, group: "Admin", needs: "members" },
];

export const entriesFor = (may: (permission: Permission) => boolean): readonly Entry[] => ENTRIES.filter((entry) => may(entry.needs));

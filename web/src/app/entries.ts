/** The pages that exist, as the side navigation and the command palette list them. */
import { t } from "@lingui/core/macro";
import { IconApps, IconArrowsSplit2, IconChartAreaLine, IconCpu, IconGauge, IconKey, IconListDetails, IconPlugConnected, IconRadar2, IconRoute, IconUsers } from "@tabler/icons-react";
import { IconAdjustments, IconDatabaseExport, IconFlask2, IconHeartbeat, IconShieldBolt } from "@tabler/icons-react";
import { IconCoins, IconPlus, IconRocket, IconUpload } from "@tabler/icons-react";
import { IconFingerprint, IconScript } from "@tabler/icons-react";
import { IconBooks, IconReceipt2, IconUserCheck } from "@tabler/icons-react";
import type { Permission, Role } from "@/api/model";
import { isTeamRole } from "@/api/roles";

/** In the order of the navigation. */
export const GROUPS = { observe: t`Observe`, govern: t`Govern`, kernel: t`Kernel`, build: t`Build`, admin: t`Admin` } as const;

export interface Entry {
  to: "/" | "/flows" | "/requests" | "/kernel" | "/discoveries" | "/limits" | "/routes" | "/providers" | "/prices" | "/publish" | "/apps" | "/interception" | "/playground" | "/health" | "/settings" | "/backups" | "/users" | "/tokens" | "/audit" | "/sign-on" | "/catalogue" | "/usage" | "/access-requests";
  label: string;
  icon: typeof IconApps;
  group: keyof typeof GROUPS;
  /** Another page of the same: there the entry stands as the open one, too. */
  also?: "/teams";
  needs: Permission;
  /** Left out: for everybody who may. App teams have a few pages, the platform's people the rest. */
  whose?: "platform" | "team";
}

export const ENTRIES: readonly Entry[] = [
  { to: "/", label: t`Overview`, icon: IconChartAreaLine, group: "observe", needs: "usage:read", whose: "platform" },
  { to: "/flows", label: t`Flows`, icon: IconArrowsSplit2, group: "observe", needs: "usage:read", whose: "platform" },
  { to: "/requests", label: t`Traffic`, icon: IconListDetails, group: "observe", needs: "usage:read" },
  { to: "/routes", label: t`Routes`, icon: IconRoute, group: "govern", needs: "services:read", whose: "platform" },
  { to: "/providers", label: t`Providers`, icon: IconPlugConnected, group: "govern", needs: "configuration:read" },
  { to: "/prices", label: t`Models & prices`, icon: IconCoins, group: "govern", needs: "configuration:read" },
  { to: "/publish", label: t`Publish`, icon: IconUpload, group: "govern", needs: "configuration:read" },
  { to: "/apps", label: t`Teams & keys`, icon: IconApps, group: "govern", also: "/teams", needs: "services:read", whose: "platform" },
  { to: "/limits", label: t`Limits`, icon: IconGauge, group: "govern", needs: "services:read", whose: "platform" },
  { to: "/access-requests", label: t`Access requests`, icon: IconUserCheck, group: "govern", needs: "services:read", whose: "platform" },
  { to: "/interception", label: t`Interception`, icon: IconShieldBolt, group: "kernel", needs: "configuration:read" },
  { to: "/discoveries", label: t`Discovery`, icon: IconRadar2, group: "kernel", needs: "configuration:read" },
  { to: "/kernel", label: t`Telemetry`, icon: IconCpu, group: "kernel", needs: "usage:read", whose: "platform" },
  { to: "/catalogue", label: t`Catalogue`, icon: IconBooks, group: "build", needs: "services:read" },
  { to: "/apps", label: t`My apps`, icon: IconApps, group: "build", needs: "services:read", whose: "team" },
  { to: "/usage", label: t`Usage`, icon: IconReceipt2, group: "build", needs: "usage:read", whose: "team" },
  { to: "/access-requests", label: t`Access requests`, icon: IconUserCheck, group: "build", needs: "services:read", whose: "team" },
  { to: "/playground", label: t`Playground`, icon: IconFlask2, group: "build", needs: "keys:write" },
  { to: "/users", label: t`Users`, icon: IconUsers, group: "admin", needs: "members" },
  { to: "/tokens", label: t`Tokens`, icon: IconKey, group: "admin", needs: "members" },
  { to: "/sign-on", label: t`Sign-on`, icon: IconFingerprint, group: "admin", needs: "sign-on:read" },
  { to: "/audit", label: t`Audit`, icon: IconScript, group: "admin", needs: "audit:read" },
  { to: "/settings", label: t`Settings`, icon: IconAdjustments, group: "admin", needs: "configuration:read" },
  { to: "/health", label: t`Health`, icon: IconHeartbeat, group: "admin", needs: "configuration:read" },
  { to: "/backups", label: t`Backups`, icon: IconDatabaseExport, group: "admin", needs: "configuration:read" },
];

export interface Deed {
  to: Entry["to"] | "/start";
  label: string;
  icon: typeof IconApps;
  needs: Permission;
  /** What is opened is the page's form for something new. */
  add: boolean;
}

/** What the command palette begins by itself. */
export const DEEDS: readonly Deed[] = [
  { to: "/routes", label: t`Add a route`, icon: IconPlus, needs: "configuration:write", add: true },
  { to: "/providers", label: t`Add a provider`, icon: IconPlus, needs: "configuration:write", add: true },
  { to: "/apps", label: t`Add an app`, icon: IconPlus, needs: "apps:write", add: true },
  { to: "/limits", label: t`Add a limit`, icon: IconPlus, needs: "configuration:write", add: true },
  { to: "/interception", label: t`Add an interception rule`, icon: IconPlus, needs: "configuration:write", add: true },
  { to: "/users", label: t`Add a user`, icon: IconPlus, needs: "members", add: true },
  { to: "/tokens", label: t`Make a token`, icon: IconPlus, needs: "members", add: true },
  { to: "/start", label: t`Go through the first run`, icon: IconRocket, needs: "configuration:write", add: false },
];

/** `role`: of the reader; undefined while it is not yet known. */
export function entriesFor(may: (permission: Permission) => boolean, role: Role | undefined): readonly Entry[] {
  const whose = role !== undefined && isTeamRole(role) ? "team" : "platform";
  return ENTRIES.filter((entry) => may(entry.needs) && (entry.whose === undefined || entry.whose === whose));
}

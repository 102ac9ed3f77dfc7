/** Roles in words. */
import { t } from "@lingui/core/macro";
import type { Role } from "./model";

export const ROLES: readonly { value: Role; label: string }[] = [
  { value: "owner", label: t`Owner: everything` },
  { value: "admin", label: t`Admin: everything but owners` },
  { value: "operator", label: t`Operator: configuration, apps and keys` },
  { value: "viewer", label: t`Viewer: sees all, changes nothing` },
  { value: "team-admin", label: t`Team admin: apps, keys and members of one team` },
  { value: "team-member", label: t`Team member: keys and usage of one team` },
];

/** What a holder of a role may hand on; the server decides, this only leaves out what it would refuse. */
export function grantable(role: Role | undefined): readonly { value: Role; label: string }[] {
  if (role === "owner") return ROLES;
  if (role === "admin") return ROLES.filter((each) => each.value !== "owner");
  if (role === "team-admin") return ROLES.filter((each) => isTeamRole(each.value));
  return [];
}

export const isTeamRole = (role: Role): boolean => role === "team-admin" || role === "team-member";

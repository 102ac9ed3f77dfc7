/** Roles in words. */
import type { Role } from "./model";

export const ROLES: readonly { value: Role; label: string }[] = [
  { value: "owner", label: "Owner: everything" },
  { value: "admin", label: "Admin: everything but owners" },
  { value: "operator", label: "Operator: configuration, apps and keys" },
  { value: "viewer", label: "Viewer: sees all, changes nothing" },
  { value: "team-admin", label: "Team admin: apps, keys and members of one team" },
  { value: "team-member", label: "Team member: keys and usage of one team" },
];

/** What a holder of a role may hand on; the server decides, this only leaves out what it would refuse. */
export function grantable(role: Role | undefined): readonly { value: Role; label: string }[] {
  if (role === "owner") return ROLES;
  if (role === "admin") return ROLES.filter((each) => each.value !== "owner");
  if (role === "team-admin") return ROLES.filter((each) => isTeamRole(each.value));
  return [];
}

export const isTeamRole = (role: Role): boolean => role === "team-admin" || role === "team-member";

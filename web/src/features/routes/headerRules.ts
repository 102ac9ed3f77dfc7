/** One direction's header rules as forms hold them: a line each, in the order in which they are applied. */
import { t } from "@lingui/core/macro";
import type { HeaderRules } from "@/api/model";

export interface HeaderRule {
  deed: keyof HeaderRules;
  name: string;
  /** Of no meaning where the header is removed. */
  value: string;
}

export const DEEDS: readonly { value: HeaderRule["deed"]; label: string }[] = [
  { value: "remove", label: t`Remove` },
  { value: "set", label: t`Set` },
  { value: "add", label: t`Add` },
];

export const rulesOf = (rules: Partial<HeaderRules> | undefined): readonly HeaderRule[] => [
  ...(rules?.remove ?? []).map((name) => ({ deed: "remove" as const, name, value: "" })),
  ...(["set", "add"] as const).flatMap((deed) => Object.entries(rules?.[deed] ?? {}).map(([name, value]) => ({ deed, name, value }))),
];

/** A header's name as the API writes it: its case means nothing. */
export const nameOf = (rule: HeaderRule): string => rule.name.trim().toLowerCase();

export function rulesWanted(rules: readonly HeaderRule[]): HeaderRules {
  const of = (deed: HeaderRule["deed"]): readonly HeaderRule[] => rules.filter((rule) => rule.deed === deed);
  return {
    remove: of("remove").map(nameOf),
    set: Object.fromEntries(of("set").map((rule) => [nameOf(rule), rule.value])),
    add: Object.fromEntries(of("add").map((rule) => [nameOf(rule), rule.value])),
  };
}

/** The same deed is done to the header by a rule above. */
export const isRepeated = (rules: readonly HeaderRule[], at: number): boolean =>
  rules.some((rule, index) => index < at && rule.deed === rules[at]?.deed && nameOf(rule) === nameOf(rules[at]) && nameOf(rule) !== "");

export const areComplete = (rules: readonly HeaderRule[]): boolean => rules.every((rule, at) => nameOf(rule) !== "" && !isRepeated(rules, at));

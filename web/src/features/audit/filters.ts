/** The filters of the audit log as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";

export const FILTER_LABELS = { actor: t`Who`, action: t`Did`, kind: t`Kind`, name: t`Name` } as const;
export type FilterName = keyof typeof FILTER_LABELS;
export type Filters = { [Name in FilterName]?: string | undefined };

/** What the URL says, nothing else: unknown names are dropped. */
export function auditFilters(search: Record<string, unknown>): Filters {
  const filters: Filters = {};
  for (const name of Object.keys(FILTER_LABELS) as FilterName[]) {
    const value = search[name];
    if ((typeof value === "string" && value !== "") || typeof value === "number") filters[name] = String(value);
  }
  return filters;
}

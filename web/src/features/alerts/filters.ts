/** The filters of alerts as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";

export const FILTER_LABELS = { kind: t`Kind`, process: t`Process`, user: t`User`, container: t`Container`, refused: t`Refused` } as const;
export type FilterName = keyof typeof FILTER_LABELS;
export type Filters = { [Name in FilterName]?: string | undefined };

/** What the URL says, nothing else: unknown names are dropped. */
export function alertFilters(search: Record<string, unknown>): Filters {
  const filters: Filters = {};
  for (const name of Object.keys(FILTER_LABELS) as FilterName[]) {
    const value = search[name];
    if ((typeof value === "string" && value !== "") || typeof value === "number" || typeof value === "boolean") filters[name] = String(value);
  }
  return filters;
}

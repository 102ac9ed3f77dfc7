/** The filters of findings as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";

export const FILTER_LABELS = { state: t`State`, provider: t`Provider`, process: t`Process`, user: t`User`, container: t`Container` } as const;
export type FilterName = keyof typeof FILTER_LABELS;
export type Filters = { [Name in FilterName]?: string | undefined };

/** What the URL says, nothing else: unknown names are dropped. */
export function discoveryFilters(search: Record<string, unknown>): Filters {
  const filters: Filters = {};
  for (const name of Object.keys(FILTER_LABELS) as FilterName[]) {
    const value = search[name];
    if (typeof value === "string" && value !== "") filters[name] = value;
    else if (typeof value === "number") filters[name] = String(value); // a user's number
  }
  return filters;
}

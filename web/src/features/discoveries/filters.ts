/** The filters of findings as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";
import { filtersIn } from "@/ui/filters";

export const FILTER_LABELS = { state: t`State`, provider: t`Provider`, process: t`Process`, user: t`User`, container: t`Container` } as const;
export type FilterName = keyof typeof FILTER_LABELS;
export type Filters = { [Name in FilterName]?: string | undefined };

export const discoveryFilters = (search: Readonly<Record<string, unknown>>): Filters => filtersIn(FILTER_LABELS, search);

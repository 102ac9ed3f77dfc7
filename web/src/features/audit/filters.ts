/** The filters of the audit log as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";
import { filtersIn } from "@/ui/filters";

export const FILTER_LABELS = { actor: t`Who`, action: t`Did`, kind: t`Kind`, name: t`Name` } as const;
export type FilterName = keyof typeof FILTER_LABELS;
export type Filters = { [Name in FilterName]?: string | undefined };

export const auditFilters = (search: Readonly<Record<string, unknown>>): Filters => filtersIn(FILTER_LABELS, search);

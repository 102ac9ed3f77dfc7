/** The ledger's filters as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";

export const FILTERS = ["app", "route", "team", "key", "target", "model", "outcome", "status"] as const;
export type FilterName = (typeof FILTERS)[number];
export type Filters = { [Name in FilterName]?: string | undefined };
export type LedgerSearch = Filters & { live?: boolean | undefined };

export const FILTER_LABELS: Record<FilterName, string> = {
  app: t`App`,
  route: t`Route`,
  team: t`Team`,
  key: t`Key`,
  target: t`Target`,
  model: t`Model`,
  outcome: t`Outcome`,
  status: t`Status`,
};

export const OUTCOMES = ["completed", "client_gone", "upstream_failed", "refused", "interrupted"] as const;

/** What the URL says, nothing else: unknown names are dropped. */
export function ledgerFilters(search: Record<string, unknown>): LedgerSearch {
  const filters: LedgerSearch = {};
  for (const name of FILTERS) {
    const value = search[name];
    if (typeof value === "string" && value !== "") filters[name] = value;
    else if (typeof value === "number") filters[name] = String(value);
  }
  if (search["live"] === true) filters.live = true;
  return filters;
}

/** The same without what is not the ledger's: the router adds what else the URL says. */
export const filtersOnly = (search: LedgerSearch): Filters => {
  const { live: _live, ...filters } = ledgerFilters(search);
  return filters;
};

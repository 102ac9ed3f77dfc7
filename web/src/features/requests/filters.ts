/** The ledger's filters as they stand in the URL: any of them together. */
import { t } from "@lingui/core/macro";
import { filtersIn } from "@/ui/filters";

export const FILTERS = ["app", "route", "team", "key", "target", "provider", "model", "process", "user", "container", "outcome", "status", "latency", "cost", "id"] as const;
export type FilterName = (typeof FILTERS)[number];
export type Filters = { [Name in FilterName]?: string | undefined };
export type LedgerSearch = Filters & { live?: boolean | undefined };

export const FILTER_LABELS: Record<FilterName, string> = {
  app: t`App`,
  route: t`Route`,
  team: t`Team`,
  key: t`Key`,
  target: t`Target`,
  provider: t`Provider`,
  model: t`Model`,
  process: t`Process`,
  user: t`User`,
  container: t`Container`,
  outcome: t`Outcome`,
  status: t`Status`,
  latency: t`Latency at least`,
  cost: t`Cost at least`,
  id: t`Request id begins`,
};

export const OUTCOMES = ["completed", "client_gone", "upstream_failed", "refused", "interrupted"] as const;

/** What the URL says, nothing else. */
export function ledgerFilters(search: Readonly<Record<string, unknown>>): LedgerSearch {
  const filters: LedgerSearch = filtersIn(FILTER_LABELS, search);
  if (search["live"] === true) filters.live = true;
  return filters;
}

/** The same without what is not the ledger's: the router adds what else the URL says. */
export const filtersOnly = (search: LedgerSearch): Filters => {
  const { live: _live, ...filters } = ledgerFilters(search);
  return filters;
};

/** What stands in the field of a filter that the console knows no values of. */
export const PLACEHOLDERS: Partial<Record<FilterName, string>> = {
  target: "openai/gpt-5-mini",
  provider: "openai",
  model: "gpt-5-mini",
  process: "python3",
  user: "mia",
  container: "web",
  key: "ci",
  status: t`429, or 5xx`,
  latency: t`2000, in ms`,
  cost: t`0.05, in USD`,
  id: "01a2",
};

/** A filter's value as people read it. */
export function filterWord(name: FilterName, value: string): string {
  switch (name) {
    case "latency":
      return `${value} ms`;
    case "cost":
      return `$${value}`;
    default:
      return value;
  }
}

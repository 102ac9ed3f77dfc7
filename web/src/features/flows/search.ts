/** What the picture of flows shows, as it stands in the URL. */
import { t } from "@lingui/core/macro";

export const MEASURES = ["tokens", "cost", "requests", "bytes"] as const;
export type Measure = (typeof MEASURES)[number];

export const FLOW_FILTERS = ["process", "user", "container", "team", "app", "key", "route", "target", "provider"] as const;
export type FlowFilterName = (typeof FLOW_FILTERS)[number];
/** An empty value: requests that have none. */
export type FlowFilters = { [Name in FlowFilterName]?: string | undefined };

export interface FlowSearch extends FlowFilters {
  measure?: Measure | undefined;
  view?: "table" | undefined;
  /** How many of a column stand by themselves; the rest is folded. */
  show?: number | undefined;
}

export const SHOWN = 10;
export const MOST_SHOWN = 40;

export const filterLabels = (): Record<FlowFilterName, string> => ({
  process: t`Process`,
  user: t`User`,
  container: t`Container`,
  team: t`Team`,
  app: t`App`,
  key: t`Key`,
  route: t`Route`,
  target: t`Target`,
  provider: t`Provider`,
});

export const measureName = (measure: Measure): string => ({ tokens: t`Tokens`, cost: t`Cost`, requests: t`Requests`, bytes: t`Bytes` })[measure];

/** What the URL says, nothing else: unknown names are dropped. */
export function flowSearch(search: Record<string, unknown>): FlowSearch {
  const found: FlowSearch = {};
  for (const name of FLOW_FILTERS) {
    const value = search[name];
    if (typeof value === "string") found[name] = value;
    else if (typeof value === "number") found[name] = String(value);
  }
  const measure = MEASURES.find((each) => each === search["measure"]);
  if (measure && measure !== "tokens") found.measure = measure;
  if (search["view"] === "table") found.view = "table";
  const show = Number(search["show"]);
  if (show > SHOWN && show <= MOST_SHOWN) found.show = Math.round(show);
  return found;
}

export const filtersOf = ({ measure: _measure, view: _view, show: _show, ...filters }: FlowSearch): FlowFilters =>
  Object.fromEntries(FLOW_FILTERS.flatMap((name) => (filters[name] === undefined ? [] : [[name, filters[name]]])));

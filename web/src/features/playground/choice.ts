/** What is tried, as the URL has it. The question itself stays out of it: prompts may hold what nobody should bookmark. */

export interface PlaygroundSearch {
  route?: string | undefined;
  dialect?: string | undefined;
  app?: string | undefined;
  /** The left side's target; left out: where the route sends it. */
  target?: string | undefined;
  /** The right side's: a target, or `ROUTE_DECIDES`; left out: there is no right side. */
  beside?: string | undefined;
}

const NAMES = ["route", "dialect", "app", "target", "beside"] as const;

export function playgroundSearch(search: Record<string, unknown>): PlaygroundSearch {
  const found: PlaygroundSearch = {};
  for (const name of NAMES) {
    const value = search[name];
    if ((typeof value === "string" && value !== "") || typeof value === "number") found[name] = String(value);
  }
  return found;
}

export const ROUTE_DECIDES = "*";

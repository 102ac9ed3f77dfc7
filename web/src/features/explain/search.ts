/** The question as it stands in the URL, so that it can be sent to somebody. */
const TEXTS = ["route", "app", "key", "dialect", "method", "host", "path"] as const;
const NUMBERS = ["input", "output"] as const;

export type ExplainSearch = { [Name in (typeof TEXTS)[number]]?: string | undefined } & { [Name in (typeof NUMBERS)[number]]?: number | undefined };

export function explainSearch(search: Record<string, unknown>): ExplainSearch {
  const found: ExplainSearch = {};
  for (const name of TEXTS) {
    const value = search[name];
    if (typeof value === "string" && value !== "") found[name] = value;
    else if (typeof value === "number") found[name] = String(value);
  }
  for (const name of NUMBERS) {
    const value = search[name];
    if (typeof value === "number" && value >= 0) found[name] = Math.round(value);
  }
  return found;
}

/** What the page of prices shows, as it stands in the URL. */
export type PriceSearch = { show?: "overrides" | "table" | undefined; search?: string | undefined; vendor?: string | undefined };

export function priceSearch(search: Record<string, unknown>): PriceSearch {
  const found: PriceSearch = {};
  const show = search["show"];
  if (show === "overrides" || show === "table") found.show = show;
  for (const name of ["search", "vendor"] as const) {
    const value = search[name];
    if (typeof value === "string" && value !== "") found[name] = value;
    else if (typeof value === "number") found[name] = String(value);
  }
  return found;
}

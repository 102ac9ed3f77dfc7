/** Filters as they stand in the URL: those of `labels` that have a value, nothing else; unknown names are dropped. */
export function filtersIn<Name extends string>(labels: Readonly<Record<Name, string>>, search: Readonly<Record<string, unknown>>): { [Each in Name]?: string | undefined } {
  const filters: { [Each in Name]?: string | undefined } = {};
  for (const name of Object.keys(labels) as Name[]) {
    const value = search[name];
    // The router reads numbers and truth values as such.
    if ((typeof value === "string" && value !== "") || typeof value === "number" || typeof value === "boolean") filters[name] = String(value);
  }
  return filters;
}

/** Merge patches (RFC 7396) between what a form began with and what it holds, as PATCH and the draft take them. */
export type Fields = Readonly<Record<string, unknown>>;

const isFields = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const own = (fields: Fields, name: string): unknown => (Object.hasOwn(fields, name) ? (fields[name] ?? null) : null);
const names = (...all: readonly Fields[]): string[] => [...new Set(all.flatMap(Object.keys))];

/**
 * What makes `after` of `before`: the fields that differ, null for those that are gone, so that what others have changed
 * beside them stays. Lists are replaced, and so are the objects that are named in `whole`, which the API takes as such.
 */
export function patchOf(before: Fields, after: Fields, whole: readonly string[] = []): Fields {
  return Object.fromEntries(
    names(before, after).flatMap((name) => {
      const was = own(before, name);
      const is = own(after, name);
      if (JSON.stringify(was) === JSON.stringify(is)) return [];
      if (!isFields(was) || !isFields(is)) return [[name, is]];
      if (whole.includes(name)) return [[name, Object.fromEntries(names(was, is).map((below) => [below, own(is, below)]))]];
      const patch = patchOf(was, is);
      return Object.keys(patch).length > 0 ? [[name, patch]] : [];
    }),
  );
}

/** One value with a patch applied to it. */
export function patched(value: unknown, patch: unknown): unknown {
  if (!isFields(patch)) return patch;
  const before = isFields(value) ? value : {};
  return Object.fromEntries(
    names(before, patch).flatMap((name) => {
      if (!Object.hasOwn(patch, name)) return [[name, own(before, name)]];
      if (patch[name] === null) return Object.hasOwn(before, name) ? [[name, null]] : [];
      return [[name, patched(own(before, name), patch[name])]];
    }),
  );
}

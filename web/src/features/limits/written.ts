/** A limit as the form holds it: read from the API's views and from a draft's entries, which leave out what is as usual. */
import type { Metric, Scope, WindowName } from "@/api/model";
import type { components } from "@/api/schema";
import type { Shape } from "@/features/publish/useEditing";

type Schemas = components["schemas"];
export type LimitWanted = Schemas["LimitDocument"];
type Otherwise = Schemas["WhenUnknown"];
export type ScopeKind = keyof Scope;

export interface Narrowing {
  kind: ScopeKind;
  /** Null: not chosen yet. */
  name: string | null;
}

export interface LimitWritten {
  name: string;
  metric: Metric;
  /** In the metric's unit; cost in USD. As it is typed. */
  atMost: number | string;
  window: WindowName;
  /** Empty: everyone. */
  scope: readonly Narrowing[];
  unpriced: Otherwise;
  whenUnavailable: Otherwise;
}

export const NEW: LimitWritten = {
  name: "",
  metric: "cost_usd",
  atMost: "",
  window: "month",
  scope: [{ kind: "team", name: null }],
  unpriced: "refuse",
  whenUnavailable: "refuse",
};

function writtenOf(source: Readonly<Record<string, unknown>>): LimitWritten {
  const limit = source as Partial<LimitWanted>;
  return {
    name: limit.name ?? "",
    metric: limit.metric ?? NEW.metric,
    atMost: limit.at_most ?? "",
    window: limit.window ?? NEW.window,
    scope: Object.entries(limit.scope ?? {}).flatMap(([kind, name]) => (name ? [{ kind: kind as ScopeKind, name }] : [])),
    unpriced: limit.unpriced ?? NEW.unpriced,
    whenUnavailable: limit.when_unavailable ?? NEW.whenUnavailable,
  };
}

export const wantedOf = (written: LimitWritten): LimitWanted => ({
  name: written.name.trim(),
  metric: written.metric,
  at_most: Number(written.atMost),
  scope: Object.fromEntries(written.scope.map(({ kind, name }) => [kind, name])),
  window: written.metric === "concurrent_requests" ? null : written.window,
  unpriced: written.unpriced,
  when_unavailable: written.whenUnavailable,
});

export const LIMIT: Shape<LimitWritten> = { kind: "limit", read: writtenOf, wanted: (written) => ({ ...wantedOf(written) }) };

export const isComplete = (written: LimitWritten): boolean => written.name.trim() !== "" && Number(written.atMost) > 0 && written.scope.every(({ name }) => name !== null);

/** A limit's figures and its scope in words. Figures come in the metric's unit: cost in USD. */
import type { Limit, Metric, Scope } from "@/api/model";
import { count } from "@/units/count";
import { money } from "@/units/money";

const UNITS: Record<Metric, string> = {
  requests: "requests",
  input_tokens: "input tokens",
  output_tokens: "output tokens",
  total_tokens: "tokens",
  cost_usd: "",
  concurrent_requests: "at once",
};

export const bare = (metric: Metric, value: number): string => (metric === "cost_usd" ? money(Math.round(value * 1e6)) : count(value));

export function amount(metric: Metric, value: number): string {
  const unit = value === 1 ? UNITS[metric].replace(/s$/, "") : UNITS[metric];
  return `${bare(metric, value)} ${unit}`.trim();
}

/** "$50.00 a month", "20 at once", "1 M tokens in all". */
export function promise(limit: Limit): string {
  const most = amount(limit.metric, Number(limit.at_most));
  if (limit.metric === "concurrent_requests" || !limit.window) return most;
  return limit.window === "lifetime" ? `${most} in all` : `${most} ${limit.window === "hour" ? "an" : "a"} ${limit.window}`;
}

/** "team search, route chat"; an empty scope is everyone. */
export function whom(scope: Scope): string {
  const parts = Object.entries(scope).filter(([, name]) => name !== null && name !== undefined);
  return parts.length === 0 ? "everyone" : parts.map(([kind, name]) => `${kind} ${name}`).join(", ");
}

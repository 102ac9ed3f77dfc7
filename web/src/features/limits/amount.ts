/** A limit's figures and its scope in words. Figures come in the metric's unit: cost in USD. */
import { plural, t } from "@lingui/core/macro";
import type { Limit, Metric, Scope } from "@/api/model";
import { count } from "@/units/count";
import { money } from "@/units/money";
import { per } from "@/units/words";

export const bare = (metric: Metric, value: number): string => (metric === "cost_usd" ? money(Math.round(value * 1e6)) : count(value));

export function amount(metric: Metric, value: number): string {
  const figure = bare(metric, value);
  switch (metric) {
    case "cost_usd":
      return figure;
    case "requests":
      return plural(value, { one: `${figure} request`, other: `${figure} requests` });
    case "input_tokens":
      return plural(value, { one: `${figure} input token`, other: `${figure} input tokens` });
    case "output_tokens":
      return plural(value, { one: `${figure} output token`, other: `${figure} output tokens` });
    case "total_tokens":
      return plural(value, { one: `${figure} token`, other: `${figure} tokens` });
    case "concurrent_requests":
      return t`${figure} at once`;
  }
}

/** "$50.00 a month", "20 at once", "1 M tokens in all". */
export function promise(limit: Limit): string {
  const most = amount(limit.metric, Number(limit.at_most));
  return limit.metric === "concurrent_requests" || !limit.window ? most : per(most, limit.window);
}

const WHOM: Readonly<Record<keyof Scope, (name: string) => string>> = {
  team: (name) => t`team ${name}`,
  app: (name) => t`app ${name}`,
  key: (name) => t`key ${name}`,
  route: (name) => t`route ${name}`,
  provider: (name) => t`provider ${name}`,
  credential: (name) => t`credential ${name}`,
  target: (name) => t`target ${name}`,
  model: (name) => t`model ${name}`,
};

/** "team search, route chat"; an empty scope is everyone. */
export function whom(scope: Scope): string {
  const parts = (Object.keys(WHOM) as (keyof Scope)[]).flatMap((kind) => (scope[kind] ? [WHOM[kind](scope[kind])] : []));
  return parts.length === 0 ? t`everyone` : parts.join(", ");
}

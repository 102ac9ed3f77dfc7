/** Figures of flows in words. */
import { plural, t } from "@lingui/core/macro";
import { bytes, count, exact, share } from "@/units/count";
import { money, moneyExact } from "@/units/money";
import { latency } from "@/units/time";
import type { FlowNode, Health } from "./graph";
import type { Measure } from "./search";

export function amount(value: number, measure: Measure): string {
  switch (measure) {
    case "cost":
      return money(value);
    case "bytes":
      return bytes(value);
    default:
      return count(value);
  }
}

export function amountExact(value: number, measure: Measure): string {
  switch (measure) {
    case "cost":
      return moneyExact(value);
    case "bytes":
      return bytes(value);
    case "tokens":
      return plural(value, { one: "# token", other: "# tokens" });
    case "requests":
      return plural(value, { one: "# request", other: "# requests" });
  }
}

/** What goes past is counted in calls where TLS is read, else in connections. */
export const callsOrConnections = (n: number): string => plural(n, { one: "# call or connection", other: "# calls or connections" });

/** Where something goes past, and not even how much of the measure is known. */
export const unknownPast = (measure: Measure): string =>
  ({
    tokens: t`; what goes past it has no known tokens`,
    cost: t`; what goes past it has no known cost`,
    requests: t`; what goes past it has no known requests`,
    bytes: t`; what goes past it has no known bytes`,
  })[measure];

/** The figure beside a node's name; empty where it has none in this measure. */
export function figureOf(node: FlowNode, measure: Measure): string {
  if (!node.ways.has("through")) return node.pastValue === null ? "" : amount(node.pastValue, measure);
  if (node.kind === "refused") return plural(node.requests, { one: "# request", other: "# requests" });
  return measure === "bytes" && node.value === 0 ? "" : amount(node.value, measure);
}

export const healthWord = (health: Health): string => ({ ok: t`healthy`, slow: t`slower than before`, warn: t`some errors`, bad: t`failing`, unknown: t`not known` })[health];

/** What is known of a node, a fact a line. */
export function factsOf(node: FlowNode, measure: Measure, total: number): string[] {
  const facts: string[] = [];
  if (node.ways.has("through")) {
    if (measure === "bytes" && node.value === 0) facts.push(t`bytes not measured`);
    else facts.push(total > 0 ? t`${amountExact(node.value, measure)}, ${share(Math.min(1, node.value / total))} of all` : amountExact(node.value, measure));
    if (measure !== "requests") facts.push(plural(node.requests, { one: "# request", other: "# requests" }));
    facts.push(node.failed === 0 ? t`none failed` : t`${exact(node.failed)} failed (${share(node.failed / node.requests)})`);
    if (node.refused > 0) facts.push(t`${exact(node.refused)} refused by the gateway`);
  }
  const first = node.firstTokens;
  if (first) facts.push(first.before ? t`first token p95 ${latency(first.p95)}, before ${latency(first.before.p95)}` : t`first token p95 ${latency(first.p95)}`);
  if (node.ways.has("past")) {
    const past = node.column === 0 ? t`goes past the gateway` : t`reached past the gateway`;
    const much = node.pastValue === null ? undefined : measure === "requests" ? callsOrConnections(node.pastValue) : amountExact(node.pastValue, measure);
    facts.push(much === undefined ? past : `${past} (${much})`);
  }
  if (node.ways.has("denied")) facts.push(node.column === 0 ? t`refused by the kernel` : t`denied to some`);
  return facts;
}

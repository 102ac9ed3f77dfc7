/** Rules of interception in words. */
import { t } from "@lingui/core/macro";
import { Mark } from "@/ui/Mark";
import { plain, sentence } from "@/units/words";
import type { Caller, Rule, RuleState } from "./queries";

interface Choice<Value> {
  value: Value;
  label: string;
}

export const MODES: readonly Choice<Rule["mode"]>[] = [
  { value: "observe", label: t`Observe: count, touch nothing` },
  { value: "govern", label: t`Govern: through routes, keys and limits` },
  { value: "deny", label: t`Deny: refuse connections` },
];
export const ON_FAILURE: readonly Choice<Rule["on_failure"]>[] = [
  { value: "open", label: t`Open: connections go directly` },
  { value: "closed", label: t`Closed: connections are refused` },
];
export const TLS: readonly Choice<Rule["tls"]>[] = [
  { value: "passthrough", label: t`Pass it through: only names, bytes and times are seen` },
  { value: "terminate", label: t`Terminate it: clients must trust our authority` },
];
export const REFUSED: readonly Choice<Rule["refused_certificate"]>[] = [
  { value: "fail", label: t`It fails each time` },
  { value: "passthrough", label: t`Its later connections pass untouched` },
];
export const UNMATCHED: readonly Choice<Rule["unmatched"]>[] = [
  { value: "splice", label: t`Goes on to its destination, untouched` },
  { value: "meter", label: t`Goes there metered and limited (HTTP)` },
  { value: "deny", label: t`Is refused` },
];
export const CREDENTIALS: readonly Choice<Rule["credential"]>[] = [
  { value: "provider", label: t`The gateway's, for the provider` },
  { value: "caller", label: t`The caller's own` },
];
export const ADDRESSES: readonly Choice<Rule["source_address"]>[] = [
  { value: "gateway", label: t`The gateway's` },
  { value: "client", label: t`The client's own (forwarded clients)` },
];

export const wordOf = <Value,>(choices: readonly Choice<Value>[], value: Value): string => choices.find((each) => each.value === value)?.label ?? String(value);

export const MODE_WORDS: Readonly<Record<Rule["mode"], string>> = { observe: t`Observe`, govern: t`Govern`, deny: t`Deny` };

export const destinationsOf = (rule: Rule): string => [...rule.destinations.hosts, ...rule.destinations.cidrs].join(", ");

export function sourcesOf(rule: Rule): string {
  const sources = rule.sources;
  if (!sources) return t`everyone`;
  const named = [
    ...sources.cidrs,
    ...sources.users.map((user) => t`user ${user}`),
    ...sources.cgroups.map((cgroup) => t`cgroup ${cgroup}`),
    ...(sources.local ? [t`this host`] : []),
  ];
  return named.join(", ") || t`everyone`;
}

/** `unit=indexer.service app=indexer`: as the form has them, a line each. */
export const callerLine = (caller: Partial<Caller>): string =>
  Object.entries(caller)
    .flatMap(([name, value]) => (value === null || value === undefined ? [] : [`${name}=${value}`]))
    .join(" ");

export function StateMark({ state }: { state: RuleState | undefined }) {
  if (!state) return <Mark tone="idle" title={t`The agent has not told of it yet`}>{t`Not told yet`}</Mark>;
  const why = state.reason === null ? undefined : `${sentence(plain(state.reason))}.`;
  if (!state.armed) return <Mark tone="bad" {...(why ? { title: why } : {})}>{t`Not armed`}</Mark>;
  if (why) return <Mark tone="warn" title={why}>{t`Armed in part`}</Mark>;
  return <Mark tone="ok">{t`Armed`}</Mark>;
}

/** Probes in words: what each is for, and what mends one that is missing. */
import { t } from "@lingui/core/macro";

export const NAMES: Readonly<Record<string, { title: string; purpose: string }>> = {
  routes: { title: t`Route figures`, purpose: t`RTT, first byte, token gaps, losses of each route and target` },
  callers: { title: t`Who is talking`, purpose: t`process, user and container behind each connection` },
  denials: { title: t`Denials`, purpose: t`refuses connections of programs that may not` },
  discovery: { title: t`Discovery`, purpose: t`who talks to AI providers past the gateway` },
  forwarded: { title: t`Forwarded clients`, purpose: t`the same of machines whose traffic this host forwards` },
  alerts: { title: t`Alerts`, purpose: t`programs and connections that are not expected of watched processes` },
  egress_guard: { title: t`Egress guard`, purpose: t`where the gateway's own processes may connect to` },
  tls: { title: t`Calls within TLS`, purpose: t`models and tokens of chosen processes, without interception` },
  trace: { title: t`Tracing`, purpose: "sluicegate trace exec, connect, dns, http" },
};

const NONE = "none: ";
/** What `source` says where all figures come: of seconds, and of minutes and hours. */
const WHOLE: readonly string[] = ["the agent's probes", "SQL"];

/** Why there are no figures of the kernel at all; undefined = there are. */
export const missingWhy = (source: string): string | undefined => (source.startsWith(NONE) ? source.slice(NONE.length) : undefined);

/** What some figures come from instead of programs in the kernel, and why; undefined = all come, or none. */
export const partialWhy = (source: string): string | undefined => (source.startsWith(NONE) || WHOLE.includes(source) ? undefined : source);

export interface Remedy {
  words: string;
  command: string;
}

/** What to do, as `sluicegate doctor` says it of the same reason. */
export function remedyOf(reason: string): Remedy {
  const wanted = /apt-get install ([\w.+-]+)/.exec(reason)?.[1];
  if (wanted) return { words: t`Install ${wanted} on this host, then start the agent anew.`, command: `apt-get install ${wanted}; sluicegate service stop --agent; sluicegate service start` };
  if (reason.includes("lacks")) return { words: t`The agent's unit is of an older release: run install.sh again, then start the service.`, command: "sluicegate service start" };
  if (/\bneeds? the feature\b/.test(reason)) return { words: t`It comes back with the probe that it needs.`, command: "sluicegate doctor" };
  return { words: t`sluicegate doctor says what is missing on this host and how to get it; the agent's log says more.`, command: "sluicegate service logs" };
}

/** "routes.on_incoming" → the feature it belongs to. */
export const featureOf = (program: string): string => program.split(".", 1)[0] ?? program;

/** Probes in words: what each is for, and what mends one that is missing. */

/** As the agent writes it into `source` where figures do come. */
const WORKING = "the agent's probes";

export const NAMES: Readonly<Record<string, { title: string; purpose: string }>> = {
  routes: { title: "Route figures", purpose: "RTT, first byte, token gaps, losses of each route and target" },
  callers: { title: "Who is talking", purpose: "process, user and container behind each connection" },
  denials: { title: "Denials", purpose: "refuses connections of programs that may not" },
  discovery: { title: "Discovery", purpose: "who talks to AI providers past the gateway" },
  trace: { title: "Tracing", purpose: "sluicegate trace exec, connect, dns, http" },
};

/** Why there are no figures of the kernel, without its leading "none: "; undefined = there are. */
export const missingWhy = (source: string): string | undefined => (source === WORKING ? undefined : source.replace(/^none: /, ""));

export interface Remedy {
  words: string;
  command: string;
}

/** What to do, as `sluicegate doctor` says it of the same reason. */
export function remedyOf(reason: string): Remedy {
  const wanted = /apt-get install ([\w.+-]+)/.exec(reason)?.[1];
  if (wanted) return { words: `Install ${wanted} on this host, then start the agent anew.`, command: `apt-get install ${wanted}; sluicegate service stop --agent; sluicegate service start` };
  if (reason.includes("lacks")) return { words: "The agent's unit is of an older release: run install.sh again, then start the service.", command: "sluicegate service start" };
  if (/\bneeds? the feature\b/.test(reason)) return { words: "It comes back with the probe that it needs.", command: "sluicegate doctor" };
  return { words: "sluicegate doctor says what is missing on this host and how to get it; the agent's log says more.", command: "sluicegate service logs" };
}

/** "routes.on_incoming" → the feature it belongs to. */
export const featureOf = (program: string): string => program.split(".", 1)[0] ?? program;

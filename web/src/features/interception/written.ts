/** A rule as the form holds it: lists as people write them. Read from the API's views and from a draft's entries. */
import type { Shape } from "@/features/publish/useEditing";
import type { Rule, RuleWanted } from "./queries";
import { callerLine } from "./words";

/** As people write lists: commas, spaces or lines between. */
const listed = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);

export interface RuleWritten extends Pick<Rule, "name" | "mode" | "on_failure" | "tls" | "refused_certificate" | "source_address" | "unmatched" | "credential"> {
  hosts: string;
  cidrs: string;
  ports: string;
  sourceCidrs: string;
  users: string;
  cgroups: string;
  local: boolean;
  app: string | null;
  callers: string;
}

export const NEW: RuleWritten = {
  name: "",
  hosts: "",
  cidrs: "",
  ports: "80, 443",
  sourceCidrs: "",
  users: "",
  cgroups: "",
  local: false,
  mode: "govern",
  on_failure: "open",
  tls: "passthrough",
  refused_certificate: "fail",
  source_address: "gateway",
  unmatched: "splice",
  credential: "provider",
  app: null,
  callers: "",
};

/** `source`: a view, or an entry of the draft. */
function writtenOf(source: Readonly<Record<string, unknown>>): RuleWritten {
  const rule = source as Partial<RuleWanted>;
  const { destinations, sources } = rule;
  return {
    name: rule.name ?? "",
    mode: rule.mode ?? NEW.mode,
    on_failure: rule.on_failure ?? NEW.on_failure,
    tls: rule.tls ?? NEW.tls,
    refused_certificate: rule.refused_certificate ?? NEW.refused_certificate,
    source_address: rule.source_address ?? NEW.source_address,
    unmatched: rule.unmatched ?? NEW.unmatched,
    credential: rule.credential ?? NEW.credential,
    app: rule.app ?? null,
    hosts: destinations?.hosts?.join("\n") ?? "",
    cidrs: destinations?.cidrs?.join(", ") ?? "",
    ports: destinations?.ports?.join(", ") ?? NEW.ports,
    sourceCidrs: sources?.cidrs?.join(", ") ?? "",
    users: sources?.users?.join(", ") ?? "",
    cgroups: sources?.cgroups?.join("\n") ?? "",
    local: sources?.local ?? false,
    callers: (rule.callers ?? []).map(callerLine).join("\n"),
  };
}

/** Whether it catches everybody's connections. */
export const anyone = ({ local, sourceCidrs, users, cgroups }: RuleWritten): boolean => !local && `${sourceCidrs}${users}${cgroups}`.trim() === "";

export function wantedOf(fields: RuleWritten): RuleWanted {
  const { name, mode, on_failure, tls, refused_certificate, source_address, unmatched, credential, app, local } = fields;
  const sources = { cidrs: listed(fields.sourceCidrs), users: listed(fields.users), cgroups: fields.cgroups.split("\n").map((line) => line.trim()).filter(Boolean), local };
  return {
    ...{ mode, on_failure, tls, refused_certificate, source_address, unmatched, credential, app },
    name: name.trim(),
    destinations: { hosts: listed(fields.hosts), cidrs: listed(fields.cidrs), ports: listed(fields.ports).map(Number) },
    sources: anyone(fields) ? null : sources,
    callers: fields.callers.split("\n").filter((line) => line.trim() !== "").map(callerOf),
  };
}

/** `unit=indexer.service app=indexer`; what it cannot be is told by the server, by name. */
function callerOf(line: string): object {
  return Object.fromEntries(
    line
      .trim()
      .split(/\s+/)
      .map((part) => {
        const at = part.indexOf("=");
        return at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
      }),
  );
}

/** Destinations and sources are taken whole: a part of them may be nothing by itself. */
export const RULE: Shape<RuleWritten> = { kind: "interception-rule", read: writtenOf, wanted: (written) => ({ ...wantedOf(written) }), whole: ["destinations", "sources"] };

export const isComplete = (written: RuleWritten): boolean => written.name.trim() !== "" && listed(written.hosts).length + listed(written.cidrs).length > 0;

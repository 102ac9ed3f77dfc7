/** A route as the form holds it: read from the API's views and from a draft's entries, which leave out what is as usual. */
import type { components } from "@/api/schema";
import type { Strategy } from "@/api/model";
import type { Shape } from "@/features/publish/useEditing";
import { areComplete, rulesOf, rulesWanted, type HeaderRule } from "./headerRules";

type Schemas = components["schemas"];
export type RouteWanted = Schemas["RouteDocument"];
type Auth = Schemas["Auth"];

export interface TargetWritten {
  provider: string;
  model: string;
  weight: number;
}

export interface RouteWritten {
  name: string;
  /** It claims a host or path; else it is asked for as `model`. */
  http: boolean;
  host: string;
  path: string;
  strategy: Strategy;
  targets: readonly TargetWritten[];
  retries: number;
  timeout: { connect: number; first_byte: number; idle: number; total: number };
  maxOutputTokens: number;
  auth: Auth;
  stripPrefix: boolean;
  preserveHost: boolean;
  readToEnd: boolean;
  prefer: readonly string[];
  /** Of HTTP routes only, as are the answers'. */
  requestHeaders: readonly HeaderRule[];
  responseHeaders: readonly HeaderRule[];
}

export const NEW: RouteWritten = {
  name: "",
  http: false,
  host: "",
  path: "",
  strategy: "ordered",
  targets: [{ provider: "", model: "", weight: 1 }],
  retries: 1,
  timeout: { connect: 5, first_byte: 120, idle: 120, total: 900 },
  maxOutputTokens: 4096,
  auth: "key",
  stripPrefix: false,
  preserveHost: false,
  readToEnd: false,
  prefer: [],
  requestHeaders: [],
  responseHeaders: [],
};

/** `source`: a `RouteView`, or a route's entry of the draft. */
function writtenOf(source: Readonly<Record<string, unknown>>): RouteWritten {
  const route = source as Partial<RouteWanted>;
  const match = route.match;
  return {
    name: route.name ?? "",
    http: match !== null && match !== undefined,
    host: match?.host ?? "",
    path: match?.path ?? "",
    strategy: route.strategy ?? NEW.strategy,
    targets: (route.targets ?? []).map((target) => ({ provider: target.provider, model: target.model ?? "", weight: target.weight ?? 1 })),
    retries: route.retries ?? NEW.retries,
    timeout: {
      connect: seconds(route.timeout?.connect, NEW.timeout.connect),
      first_byte: seconds(route.timeout?.first_byte, NEW.timeout.first_byte),
      idle: seconds(route.timeout?.idle, NEW.timeout.idle),
      total: seconds(route.timeout?.total, NEW.timeout.total),
    },
    maxOutputTokens: route.max_output_tokens ?? NEW.maxOutputTokens,
    auth: route.auth ?? NEW.auth,
    stripPrefix: route.strip_prefix ?? false,
    preserveHost: route.preserve_host ?? false,
    readToEnd: route.read_to_end ?? false,
    prefer: route.prefer ?? [],
    requestHeaders: rulesOf(route.request_headers),
    responseHeaders: rulesOf(route.response_headers),
  };
}

const seconds = (value: number | string | undefined, usual: number): number => (typeof value === "number" ? value : usual);

/** What the API takes. */
export function wantedOf(written: RouteWritten): RouteWanted {
  return {
    name: written.name.trim(),
    strategy: written.strategy,
    targets: written.targets.map((target) => ({ provider: target.provider, ...(written.http ? {} : { model: target.model.trim() }), weight: target.weight })),
    retries: written.retries,
    timeout: written.timeout,
    read_to_end: written.readToEnd,
    prefer: [...written.prefer],
    ...(written.http
      ? {
          match: { host: written.host.trim() || null, path: written.path.trim() || null },
          auth: written.auth,
          strip_prefix: written.stripPrefix,
          preserve_host: written.preserveHost,
          request_headers: rulesWanted(written.requestHeaders),
          response_headers: rulesWanted(written.responseHeaders),
        }
      : { max_output_tokens: written.maxOutputTokens }),
  };
}

export const ROUTE: Shape<RouteWritten> = { kind: "route", read: writtenOf, wanted: (written) => ({ ...wantedOf(written) }) };

export const isComplete = (written: RouteWritten): boolean =>
  written.name.trim() !== "" &&
  written.targets.length > 0 &&
  written.targets.every((target) => target.provider !== "" && (written.http || target.model.trim() !== "")) &&
  (!written.http || ((written.host.trim() !== "" || written.path.trim() !== "") && areComplete(written.requestHeaders) && areComplete(written.responseHeaders)));

/** From paths to nodes and links: five columns, the tail of each folded into one node, and what goes past beside them. */
import { t } from "@lingui/core/macro";
import type { FirstTokens, FlowPast, FlowPath, Flows } from "@/api/model";
import { filterLabels, type FlowFilters, type Measure } from "./search";

export type Health = "ok" | "slow" | "warn" | "bad" | "unknown";
/** `past`: goes past the gateway; `denied`: the kernel refuses it. */
export type Way = "through" | "past" | "denied";
export type NodeKind = "named" | "none" | "refused" | "others";

export interface FlowNode {
  id: string;
  column: number;
  kind: NodeKind;
  label: string;
  /** Beside the name: user, container, app of a key. */
  note: string;
  /** What a click narrows to; undefined: it cannot be asked for. */
  filter: FlowFilters | undefined;
  /** Of what goes through. */
  value: number;
  /** Of what goes past; null = not known in this measure. */
  pastValue: number | null;
  requests: number;
  failed: number;
  refused: number;
  health: Health;
  /** How many of the tail it stands for. */
  folded: number;
  /** Something of it goes past us or is denied. */
  ways: Set<Way>;
  firstTokens: FirstTokens | undefined;
}

export interface FlowLink {
  id: string;
  way: Way;
  from: FlowNode;
  to: FlowNode;
  /** In the measure; null = not known in it, and drawn with a width of its own. */
  value: number | null;
  health: Health;
  /** Numbers of the strands in it, with what each adds. */
  strands: Map<number, number>;
}

/** One path, or one finding. */
export interface Strand {
  nodes: FlowNode[];
  path: FlowPath | undefined;
  past: FlowPast | undefined;
}

export interface Graph {
  columns: FlowNode[][];
  links: FlowLink[];
  strands: Strand[];
  total: number;
  /** Of what goes past; null = known of none. */
  pastTotal: number | null;
}

export const COLUMNS = 5;

export function valueOf(path: FlowPath, measure: Measure): number {
  switch (measure) {
    case "tokens":
      return path.input_tokens + path.output_tokens;
    case "cost":
      return path.cost_usd_micros;
    case "requests":
      return path.requests;
    case "bytes":
      return path.bytes ?? 0;
  }
}

/** What went past in the measure. Tokens and calls are known where a process is read within TLS; cost never is. */
export function pastValue(past: FlowPast, measure: Measure): number | null {
  if (past.state === "deny" && past.connections === 0) return null;
  switch (measure) {
    case "tokens":
      return past.calls > 0 ? past.input_tokens + past.output_tokens : null;
    case "cost":
      return null;
    case "requests":
      return past.calls > 0 ? past.calls : past.connections;
    case "bytes":
      return past.bytes;
  }
}

interface Named {
  id: string;
  kind: NodeKind;
  label: string;
  note: string;
  filter: FlowFilters | undefined;
}

const named = (column: number, value: string, filter: FlowFilters, note = "", label = value): Named => ({ id: `${column}/${value}${note ? ` ${note}` : ""}`, kind: "named", label, note, filter });
const none = (column: number, label: string, filter?: FlowFilters): Named => ({ id: `${column}/`, kind: "none", label, note: "", filter });

/** The process where the kernel knew it, else the key that was shown. */
function sourceOf(path: FlowPath): Named {
  if (path.process) {
    const filter: FlowFilters = { process: path.process, ...(path.container ? { container: path.container } : path.user ? { user: path.user } : {}) };
    return named(0, path.process, filter, path.container ?? path.user ?? "");
  }
  if (path.key) return named(0, `key ${path.app ?? ""}/${path.key}`, { app: path.app ?? "", key: path.key }, path.app ?? "", t`key ${path.key}`);
  return none(0, t`known by their address`, { process: "", key: "" });
}

function pastSource(past: FlowPast): Named {
  const name = past.process ?? past.client;
  if (name === null) return none(0, t`anybody`);
  const beside = past.container ?? past.user ?? past.unit ?? "";
  return named(0, name, past.process ? { process: past.process, ...(past.container ? { container: past.container } : past.user ? { user: past.user } : {}) } : {}, beside);
}

function stopsOf(path: FlowPath): Named[] {
  const stops = [
    sourceOf(path),
    path.app ? named(1, path.app, { app: path.app }) : none(1, t`no app`, { app: "" }),
    path.route ? named(2, path.route, { route: path.route }) : none(2, t`no route`, { route: "" }),
  ];
  if (path.target === null) {
    const wholly = path.refused === path.requests;
    return [...stops, { ...none(3, wholly ? t`refused here` : t`nothing went upstream`, { target: "" }), id: wholly ? "3/refused" : "3/", kind: wholly ? "refused" : "none" }];
  }
  // Beside its provider the model alone says which target it is.
  const model = path.provider && path.target.startsWith(`${path.provider}/`) ? path.target.slice(path.provider.length + 1) : path.target;
  return [...stops, named(3, path.target, { target: path.target }, "", model), path.provider ? named(4, path.provider, { provider: path.provider }) : none(4, t`no provider`)];
}

const FEW = 20;
const SLOWER = 1.5;

/** Slower by half than in as much time before, where both were measured often enough to tell. */
export const isSlow = (now: FirstTokens | undefined): boolean => now?.before != null && now.count >= FEW && now.before.count >= FEW && now.p95 > now.before.p95 * SLOWER;

export function healthOf(requests: number, failed: number, slow: boolean): Health {
  if (requests === 0) return "unknown";
  const part = failed / requests;
  if (part >= 0.1) return "bad";
  if (part >= 0.01 && failed > 1) return "warn";
  return slow ? "slow" : "ok";
}

export function graphOf(flows: Flows, measure: Measure, shown: number): Graph {
  const ways: { stops: Named[]; value: number | null; way: Way; path: FlowPath | undefined; past: FlowPast | undefined }[] = [
    ...flows.paths.map((path) => ({ stops: stopsOf(path), value: valueOf(path, measure), way: "through" as const, path, past: undefined })),
    ...flows.past.map((past) => ({
      stops: [pastSource(past), past.provider ? named(4, past.provider, { provider: past.provider }) : none(4, past.host ?? t`any host`)],
      value: pastValue(past, measure),
      way: past.state === "deny" ? ("denied" as const) : ("past" as const),
      path: undefined,
      past,
    })),
  ];

  const kept = keptOf(ways, shown);
  const nodes = new Map<string, FlowNode>();
  const nodeOf = (stop: Named): FlowNode => {
    const column = columnOf(stop);
    const side = kept[column]!.past.all.has(stop.id) ? "past" : "through";
    const { all, shown: whole } = kept[column]![side];
    const folds = !whole.has(stop.id) && stop.kind === "named";
    const id = folds ? `${column}/others ${side}` : stop.id;
    let node = nodes.get(id);
    if (!node) {
      const tail = all.size - whole.size;
      node = {
        ...stop, id, column, value: 0, pastValue: null, requests: 0, failed: 0, refused: 0, health: "unknown", folded: 0, ways: new Set(), firstTokens: undefined,
        ...(folds ? { kind: "others" as const, label: t`${tail} others`, note: "", filter: undefined, folded: tail } : {}),
      };
      if (!folds && column === 2) node.firstTokens = flows.first_tokens.routes[stop.label];
      if (!folds && column === 3) node.firstTokens = flows.first_tokens.targets[stop.filter?.target ?? ""];
      if (!folds && column === 4) node.firstTokens = flows.first_tokens.providers[stop.label];
      nodes.set(id, node);
    }
    return node;
  };

  const links = new Map<string, FlowLink & { requests: number; failed: number }>();
  const strands: Strand[] = ways.map(({ stops, value, way, path, past }, number) => {
    const through = stops.map(nodeOf);
    for (const node of through) {
      if (path) node.value += value ?? 0;
      else if (value !== null) node.pastValue = (node.pastValue ?? 0) + value;
      node.ways.add(way);
      if (path) {
        node.requests += path.requests;
        node.failed += path.errors - path.refused;
        node.refused += path.refused;
      }
    }
    for (let at = 0; at + 1 < through.length; at += 1) {
      const [from, to] = [through[at]!, through[at + 1]!];
      const id = `${way} ${from.id} → ${to.id}`;
      let link = links.get(id);
      if (!link) links.set(id, (link = { id, way, from, to, value: null, health: "unknown", strands: new Map(), requests: 0, failed: 0 }));
      if (value !== null) link.value = (link.value ?? 0) + value;
      link.strands.set(number, value ?? 0);
      link.requests += path?.requests ?? 0;
      link.failed += path ? path.errors - path.refused : 0;
    }
    return { nodes: through, path, past };
  });
  for (const node of nodes.values()) node.health = node.kind === "refused" ? "bad" : healthOf(node.requests, node.failed, isSlow(node.firstTokens));
  for (const link of links.values()) {
    const slow = link.from.column >= 2 && isSlow(link.to.firstTokens);
    link.health = link.to.kind === "refused" ? "bad" : healthOf(link.requests, link.failed, slow);
  }

  const columns = Array.from({ length: COLUMNS }, (_, column) => [...nodes.values()].filter((node) => node.column === column));
  const pasts = ways.filter((each) => each.way === "past").map((each) => each.value).filter((value) => value !== null);
  return {
    columns,
    links: [...links.values()],
    strands,
    total: flows.paths.reduce((sum, path) => sum + valueOf(path, measure), 0),
    pastTotal: pasts.length === 0 ? null : pasts.reduce((sum, value) => sum + value, 0),
  };
}

interface Kept {
  all: Set<string>;
  /** Those that stand by themselves. */
  shown: Set<string>;
}

/** Which nodes of each column are not folded: the largest of those that something goes through, and of the others. */
function keptOf(ways: readonly { stops: Named[]; value: number | null; way: Way }[], shown: number): { through: Kept; past: Kept }[] {
  return Array.from({ length: COLUMNS }, (_, column) => {
    const sizes = { through: new Map<string, number>(), past: new Map<string, number>() };
    for (const { stops, value, way } of ways) {
      for (const stop of stops) {
        if (columnOf(stop) !== column) continue;
        const sized = sizes[way === "through" ? "through" : "past"];
        // Who is denied comes before who is not: that is what one looks for.
        sized.set(stop.id, (sized.get(stop.id) ?? 0) + (way === "denied" ? Number.MAX_SAFE_INTEGER / 2 : (value ?? 0)));
      }
    }
    for (const id of sizes.through.keys()) sizes.past.delete(id);
    const most = (sized: Map<string, number>, room: number): Kept => {
      const order = [...sized].sort((a, b) => b[1] - a[1]).map(([id]) => id);
      return { all: new Set(order), shown: new Set(order.slice(0, order.length === room + 1 ? room + 1 : room)) }; // a tail of one is no tail
    };
    return { through: most(sizes.through, shown), past: most(sizes.past, Math.ceil(shown / 2)) };
  });
}

const columnOf = (stop: Named): number => Number(stop.id[0]);

/** What a filter says, in words, for a screen reader and the hover. */
export const filterWords = (filter: FlowFilters): string => {
  const labels = filterLabels();
  return Object.entries(filter).map(([name, value]) => `${labels[name as keyof FlowFilters]} ${value === "" ? t`none` : value}`).join(", ");
};

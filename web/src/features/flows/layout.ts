/** Where everything of the picture stands: pure geometry, in pixels.
 *
 * Nodes of a column stand under each other, in an order that crosses few links. What goes past the gateway runs in a lane
 * of its own beneath all of them, from the processes straight to the providers.
 */
import type { FlowLink, FlowNode, Graph } from "./graph";

const NODE_WIDTH = 10;
const HEAD = 30;
const GAP = 10;
/** A node with its label needs so much, however thin it is. */
const PITCH = 26;
/** Of all that goes through, where it is in one column. */
const RIVER = 380;
const THINNEST = 1.25;
/** A link whose size is not known. */
const UNMEASURED = 6;
const LANE_GAP = 30;

export interface NodeBox {
  node: FlowNode;
  x: number;
  y: number;
  height: number;
}

export interface Ribbon {
  link: FlowLink;
  /** The middle line, for strokes as thick as the link. */
  line: string;
  thickness: number;
  /** Pixels a unit of the measure. */
  scale: number;
  x0: number;
  y0: number;
  x1: number;
  y1: number;
  /** Height of the lane that it goes through; undefined: straight to the next column. */
  laneY: number | undefined;
}

export interface Layout {
  boxes: Map<string, NodeBox>;
  ribbons: Ribbon[];
  columnX: number[];
  width: number;
  height: number;
  /** Between what goes through and what goes past; undefined: nothing goes past. */
  shoreY: number | undefined;
}

export function layoutOf(graph: Graph, width: number): Layout {
  const scale = graph.total > 0 ? RIVER / Math.max(graph.total, graph.pastTotal ?? 0) : 0;
  const thick = (link: FlowLink): number => (link.value === null ? UNMEASURED : Math.max(THINNEST, link.value * scale));
  const into = new Map<FlowNode, FlowLink[]>();
  const out = new Map<FlowNode, FlowLink[]>();
  for (const link of graph.links) {
    push(out, link.from, link);
    push(into, link.to, link);
  }
  const orders = ordered(graph, into, out);
  const step = (width - NODE_WIDTH) / (orders.length - 1);
  const columnX = orders.map((_, column) => column * step);

  const boxes = new Map<string, NodeBox>();
  let mainY = HEAD;
  const belowOf: FlowNode[][] = orders.map(() => []);
  const heightOf = (node: FlowNode): number => Math.max(3, sum(out.get(node), thick), sum(into.get(node), thick));
  orders.forEach((order, column) => {
    let y = HEAD;
    for (const node of order) {
      if (!node.ways.has("through")) {
        belowOf[column]!.push(node);
        continue;
      }
      const height = heightOf(node);
      boxes.set(node.id, { node, x: columnX[column]!, y, height });
      y += Math.max(PITCH, height) + GAP;
    }
    mainY = Math.max(mainY, y - GAP);
  });

  const lanes = graph.links.filter((link) => link.way !== "through");
  const shoreY = lanes.length > 0 ? mainY + LANE_GAP / 2 : undefined;
  let height = mainY;
  belowOf.forEach((order, column) => {
    let y = mainY + LANE_GAP;
    for (const node of order) {
      const tall = heightOf(node);
      boxes.set(node.id, { node, x: columnX[column]!, y, height: tall });
      y += Math.max(PITCH, tall) + GAP;
    }
    height = Math.max(height, y - GAP);
  });

  const ends = new Map<FlowLink, { y0: number; y1: number }>();
  for (const { node, y } of boxes.values()) {
    let at = y;
    for (const link of byPlace(out.get(node), (each) => boxes.get(each.to.id)!)) {
      ends.set(link, { y0: at + thick(link) / 2, y1: 0 });
      at += thick(link);
    }
  }
  for (const { node, y } of boxes.values()) {
    let at = y;
    for (const link of byPlace(into.get(node), (each) => boxes.get(each.from.id)!)) {
      ends.get(link)!.y1 = at + thick(link) / 2;
      at += thick(link);
    }
  }

  let laneY = mainY + LANE_GAP;
  const laneOf = new Map<FlowLink, number>();
  for (const link of [...lanes].sort((a, b) => (ends.get(a)?.y0 ?? 0) - (ends.get(b)?.y0 ?? 0))) {
    laneOf.set(link, laneY + thick(link) / 2);
    laneY += thick(link) + 2;
  }
  height = Math.max(height, laneY);

  const ribbons = graph.links.map((link): Ribbon => {
    const [from, to] = [boxes.get(link.from.id)!, boxes.get(link.to.id)!];
    const { y0, y1 } = ends.get(link)!;
    const ends_ = { x0: from.x + NODE_WIDTH, y0, x1: to.x, y1, laneY: laneOf.get(link) };
    return { link, line: lineOf(ends_), thickness: thick(link), scale, ...ends_ };
  });
  // The thick ones first: what is thin stays visible on top of them.
  ribbons.sort((a, b) => b.thickness - a.thickness);
  return { boxes, ribbons, columnX, width, height: height + 8, shoreY };
}

type Ends = Pick<Ribbon, "x0" | "y0" | "x1" | "y1" | "laneY">;

function lineOf({ x0, y0, x1, y1, laneY }: Ends): string {
  const middle = (x0 + x1) / 2;
  if (laneY === undefined) return `M${x0} ${r(y0)}C${r(middle)} ${r(y0)} ${r(middle)} ${r(y1)} ${x1} ${r(y1)}`;
  const bend = (x1 - x0) / 8;
  return (
    `M${x0} ${r(y0)}C${r(x0 + bend)} ${r(y0)} ${r(x0 + bend)} ${r(laneY)} ${r(x0 + 2 * bend)} ${r(laneY)}` +
    `L${r(x1 - 2 * bend)} ${r(laneY)}C${r(x1 - bend)} ${r(laneY)} ${r(x1 - bend)} ${r(y1)} ${x1} ${r(y1)}`
  );
}

/** The part of a ribbon that some of its strands make up, along its upper edge. */
export function partOf(ribbon: Ribbon, chosen: ReadonlySet<number>): { line: string; thickness: number } | undefined {
  let value = 0;
  let any = false;
  for (const [number, part] of ribbon.link.strands) {
    if (!chosen.has(number)) continue;
    any = true;
    value += part;
  }
  if (!any) return undefined;
  const thickness = ribbon.link.value === null ? ribbon.thickness : Math.min(ribbon.thickness, Math.max(THINNEST, value * ribbon.scale));
  const up = (ribbon.thickness - thickness) / 2;
  return { line: lineOf({ ...ribbon, y0: ribbon.y0 - up, y1: ribbon.y1 - up, laneY: ribbon.laneY === undefined ? undefined : ribbon.laneY - up }), thickness };
}

const SWEEPS = 6;

/** Columns in an order of nodes that crosses few links: each stands near the middle of what it is linked with. */
function ordered(graph: Graph, into: ReadonlyMap<FlowNode, FlowLink[]>, out: ReadonlyMap<FlowNode, FlowLink[]>): FlowNode[][] {
  const orders = graph.columns.map((column) => [...column].sort((a, b) => b.value - a.value || a.id.localeCompare(b.id)));
  const place = new Map<FlowNode, number>();
  const settle = (order: FlowNode[]): void => {
    const whole = order.reduce((all, node) => all + node.value, 0) || 1;
    let at = 0;
    for (const node of order) {
      place.set(node, (at + node.value / 2) / whole);
      at += node.value;
    }
  };
  orders.forEach(settle);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const forward = sweep % 2 === 0;
    const columns = forward ? [1, 2, 3, 4] : [3, 2, 1, 0];
    for (const column of columns) {
      const order = orders[column]!;
      const middle = new Map(
        order.map((node) => {
          const links = (forward ? into : out).get(node)?.filter((link) => link.way === "through") ?? [];
          const weight = links.reduce((all, link) => all + (link.value ?? 0), 0);
          const at = links.reduce((all, link) => all + (link.value ?? 0) * (place.get(forward ? link.from : link.to) ?? 0), 0);
          return [node, weight > 0 ? at / weight : (place.get(node) ?? 0)];
        }),
      );
      order.sort((a, b) => rank(a) - rank(b) || (middle.get(a) ?? 0) - (middle.get(b) ?? 0) || b.value - a.value);
      settle(order);
    }
  }
  return orders;
}

/** The folded tail stands last, after what was refused. */
const rank = (node: FlowNode): number => (node.kind === "others" ? 2 : node.kind === "refused" || node.kind === "none" ? 1 : 0);

const push = (map: Map<FlowNode, FlowLink[]>, node: FlowNode, link: FlowLink): void => {
  const links = map.get(node);
  if (links) links.push(link);
  else map.set(node, [link]);
};

const sum = (links: readonly FlowLink[] | undefined, thick: (link: FlowLink) => number): number => (links ?? []).reduce((all, link) => all + thick(link), 0);

/** What goes past leaves a node below what goes through. */
function byPlace(links: readonly FlowLink[] | undefined, boxOf: (link: FlowLink) => NodeBox): FlowLink[] {
  const way = { through: 0, past: 1, denied: 2 } as const;
  return [...(links ?? [])].sort((a, b) => way[a.way] - way[b.way] || boxOf(a).y - boxOf(b).y);
}

const r = (pixels: number): number => Math.round(pixels * 10) / 10;

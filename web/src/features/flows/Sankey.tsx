/** The picture itself: nodes that can be reached by keyboard, ribbons by health, the lane of what goes past. */
import { t } from "@lingui/core/macro";
import { useElementSize } from "@mantine/hooks";
import { useMemo, useState, type KeyboardEvent } from "react";
import styles from "./flows.module.css";
import { filterWords, type FlowNode, type Graph } from "./graph";
import { layoutOf, partOf, type Layout, type NodeBox } from "./layout";
import type { FlowFilters, Measure } from "./search";
import { factsOf, figureOf, healthWord } from "./words";

interface SankeyProps {
  graph: Graph;
  measure: Measure;
  filters: FlowFilters;
  /** A node was chosen: narrow to it, or take that back. */
  choose: (filter: FlowFilters) => void;
  unfold: () => void;
}

const LEAST_WIDTH = 640;
/** Letters that fit between two columns, at 13 px. */
const LETTER_PX = 6.9;

export function Sankey({ graph, measure, filters, choose, unfold }: SankeyProps) {
  const { ref, width } = useElementSize<HTMLDivElement>();
  const layout = useMemo(() => (width > 0 ? layoutOf(graph, Math.max(LEAST_WIDTH, width)) : undefined), [graph, width]);
  const [lit, setLit] = useState<string>();
  const chosen = useMemo(() => strandsAt(graph, lit), [graph, lit]);
  const heads = [t`Process or client`, t`App`, t`Route`, t`Target`, t`Provider`];

  function onKey(event: KeyboardEvent<SVGGElement>, box: NodeBox): void {
    if (!layout) return;
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      act(box.node);
      return;
    }
    const next = neighbour(layout, box, event.key);
    if (!next) return;
    event.preventDefault();
    event.currentTarget.ownerSVGElement?.querySelector<SVGGElement>(`[data-node="${CSS.escape(next.node.id)}"]`)?.focus();
  }

  function act(node: FlowNode): void {
    if (node.kind === "others") unfold();
    else if (node.filter && Object.keys(node.filter).length > 0) choose(node.filter);
  }

  const litBox = lit !== undefined ? layout?.boxes.get(lit) : undefined;
  return (
    <div className={styles.picture}>
      <div ref={ref} />
      {layout ? (
        <svg width={layout.width} height={layout.height} viewBox={`0 0 ${layout.width} ${layout.height}`} role="group" aria-label={t`Flows from processes to providers`} onMouseLeave={() => setLit(undefined)}>
          <defs>
            <pattern id="flow-hatch" patternUnits="userSpaceOnUse" width="7" height="7" patternTransform="rotate(45)">
              <rect width="7" height="7" className={styles.hatchGround} />
              <rect width="3" height="7" className={styles.hatch} />
            </pattern>
          </defs>
          {heads.map((head, column) => (
            <text key={column} className={styles.head} x={column === 4 ? layout.width : layout.columnX[column]} y={14} textAnchor={column === 4 ? "end" : "start"}>
              {head}
            </text>
          ))}
          {layout.shoreY !== undefined ? (
            <g className={styles.shore} aria-hidden>
              <line x1={0} x2={layout.width} y1={layout.shoreY} y2={layout.shoreY} />
            </g>
          ) : null}
          <g className={styles.ribbons} data-lit={chosen !== undefined || undefined} fill="none" aria-hidden>
            {layout.ribbons.map((ribbon) => (
              <path
                key={ribbon.link.id}
                d={ribbon.line}
                strokeWidth={ribbon.thickness}
                data-way={ribbon.link.way}
                data-health={ribbon.link.health}
                onMouseEnter={() => setLit(ribbon.link.id)}
              />
            ))}
          </g>
          {chosen ? (
            <g className={styles.light} fill="none" aria-hidden>
              {layout.ribbons.map((ribbon) => {
                const part = partOf(ribbon, chosen);
                return part ? <path key={ribbon.link.id} d={part.line} strokeWidth={part.thickness} data-way={ribbon.link.way} data-health={ribbon.link.health} /> : null;
              })}
            </g>
          ) : null}
          {[...layout.boxes.values()].map((box) => (
            <Node
              key={box.node.id}
              box={box}
              layout={layout}
              measure={measure}
              total={graph.total}
              dim={chosen !== undefined && !reaches(graph, chosen, box.node)}
              active={isChosen(box.node.filter, filters)}
              lit={() => setLit(box.node.id)}
              unlit={() => setLit(undefined)}
              act={() => act(box.node)}
              onKey={(event) => onKey(event, box)}
            />
          ))}
        </svg>
      ) : null}
      {litBox && layout ? <Card box={litBox} layout={layout} measure={measure} total={graph.total} /> : null}
    </div>
  );
}

interface NodeProps {
  box: NodeBox;
  layout: Layout;
  measure: Measure;
  total: number;
  dim: boolean;
  active: boolean;
  lit: () => void;
  unlit: () => void;
  act: () => void;
  onKey: (event: KeyboardEvent<SVGGElement>) => void;
}

function Node({ box, layout, measure, total, dim, active, lit, unlit, act, onKey }: NodeProps) {
  const { node, x, y, height } = box;
  const last = node.column === 4;
  const room = Math.floor((layout.columnX[1]! - 24) / LETTER_PX);
  const figure = figureOf(node, measure);
  const label = cut(node.label, room - figure.length - 2);
  const note = node.note && label.length + figure.length + node.note.length + 4 <= room ? node.note : "";
  const middle = y + Math.max(height, 0) / 2;
  const clickable = node.kind === "others" || (node.filter !== undefined && Object.keys(node.filter).length > 0);
  const deed = node.kind === "others" ? t`Show more of them` : active ? t`Take the filter away` : node.filter ? t`Show only ${filterWords(node.filter)}` : "";
  return (
    <g
      className={styles.node}
      data-node={node.id}
      data-dim={dim || undefined}
      data-active={active || undefined}
      data-kind={node.kind}
      data-clickable={clickable || undefined}
      role="button"
      aria-pressed={active}
      aria-label={[node.label, node.note, ...factsOf(node, measure, total), node.ways.has("through") ? healthWord(node.health) : "", deed].filter(Boolean).join(", ")}
      tabIndex={0}
      onMouseEnter={lit}
      onFocus={lit}
      onBlur={unlit}
      onClick={act}
      onKeyDown={onKey}
    >
      <rect className={styles.hit} x={last ? x - layout.columnX[1]! * 0.7 : x - 4} y={middle - Math.max(26, height + 6) / 2} width={layout.columnX[1]! * 0.7 + 14} height={Math.max(26, height + 6)} rx={6} />
      <rect className={styles.bar} data-health={node.health} data-way={node.ways.has("through") ? "through" : node.ways.has("denied") ? "denied" : "past"} x={x} y={y} width={10} height={height} rx={2} />
      <text className={styles.label} x={last ? x - 8 : x + 18} y={middle} dy="0.34em" textAnchor={last ? "end" : "start"}>
        {label}
        {note ? <tspan className={styles.note}> {note}</tspan> : null}
        {figure ? <tspan className={styles.figure} dx="6">{figure}</tspan> : null}
      </text>
    </g>
  );
}

/** What is known of the lit node, beside it. */
function Card({ box, layout, measure, total }: { box: NodeBox; layout: Layout; measure: Measure; total: number }) {
  const { node } = box;
  const beside = node.column >= 3 ? { right: layout.width - box.x + 10 } : { left: box.x + 22 };
  return (
    <div className={styles.card} style={{ ...beside, top: Math.min(box.y + Math.max(26, box.height) / 2 + 18, Math.max(0, layout.height - 110)) }} aria-hidden>
      <b>
        {node.label} <span>{node.note}</span>
      </b>
      {factsOf(node, measure, total).map((fact) => (
        <span key={fact}>{fact}</span>
      ))}
    </div>
  );
}

/** The strands through a node or a link. */
function strandsAt(graph: Graph, lit: string | undefined): ReadonlySet<number> | undefined {
  if (lit === undefined) return undefined;
  const link = graph.links.find((each) => each.id === lit);
  if (link) return new Set(link.strands.keys());
  const found = new Set<number>();
  graph.strands.forEach((strand, number) => {
    if (strand.nodes.some((node) => node.id === lit)) found.add(number);
  });
  return found.size > 0 ? found : undefined;
}

function reaches(graph: Graph, chosen: ReadonlySet<number>, node: FlowNode): boolean {
  for (const number of chosen) if (graph.strands[number]?.nodes.includes(node)) return true;
  return false;
}

const isChosen = (filter: FlowFilters | undefined, filters: FlowFilters): boolean =>
  filter !== undefined && Object.keys(filter).length > 0 && Object.entries(filter).every(([name, value]) => filters[name as keyof FlowFilters] === value);

/** Where an arrow key leads: up and down within a column, left and right to what is nearest in the next one. */
function neighbour(layout: Layout, box: NodeBox, key: string): NodeBox | undefined {
  const boxes = [...layout.boxes.values()];
  if (key === "ArrowDown" || key === "ArrowUp") {
    const column = boxes.filter((each) => each.node.column === box.node.column).sort((a, b) => a.y - b.y);
    return column[column.indexOf(box) + (key === "ArrowDown" ? 1 : -1)];
  }
  if (key !== "ArrowRight" && key !== "ArrowLeft") return undefined;
  const next = boxes.filter((each) => each.node.column === box.node.column + (key === "ArrowRight" ? 1 : -1));
  return next.sort((a, b) => Math.abs(a.y - box.y) - Math.abs(b.y - box.y))[0];
}

const cut = (text: string, letters: number): string => (text.length > letters ? `${text.slice(0, Math.max(3, letters - 1))}…` : text);

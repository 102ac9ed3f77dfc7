/** The picture for narrow screens: its five columns under each other, each node a bar that can be chosen. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Section } from "@/ui/Page";
import styles from "./flows.module.css";
import type { Graph } from "./graph";
import type { FlowFilters, Measure } from "./search";
import { factsOf, figureOf } from "./words";

interface RankedProps {
  graph: Graph;
  measure: Measure;
  choose: (filter: FlowFilters) => void;
  unfold: () => void;
}

export function Ranked({ graph, measure, choose, unfold }: RankedProps) {
  const heads = [t`Processes and clients`, t`Apps`, t`Routes`, t`Targets`, t`Providers`];
  return graph.columns.map((nodes, column) => {
    const largest = Math.max(1, ...nodes.map((node) => node.value));
    const order = [...nodes].sort((a, b) => Number(a.kind === "others") - Number(b.kind === "others") || b.value - a.value);
    return (
      <Section key={column} title={heads[column] ?? ""}>
        <ul className={styles.ranked}>
          {order.map((node) => (
            <li key={node.id}>
              <button
                type="button"
                onClick={() => (node.kind === "others" ? unfold() : node.filter && choose(node.filter))}
                disabled={node.kind !== "others" && (!node.filter || Object.keys(node.filter).length === 0)}
                title={factsOf(node, measure, graph.total).join(", ")}
              >
                <span className={styles.rankedName}>
                  {node.label} <small>{node.note}</small>
                </span>
                <span className={styles.rankedFigure}>{figureOf(node, measure) || "—"}</span>
                <span className={styles.rankedTrack} aria-hidden>
                  <i data-health={node.health} data-way={node.ways.has("through") ? "through" : node.ways.has("denied") ? "denied" : "past"} style={{ width: `${node.ways.has("through") ? Math.max(1, (node.value / largest) * 100) : 12}%` }} />
                </span>
                {node.ways.has("denied") ? <small className={styles.rankedDenied}><Trans>denied</Trans></small> : node.ways.has("past") ? <small><Trans>past the gateway</Trans></small> : null}
              </button>
            </li>
          ))}
        </ul>
      </Section>
    );
  });
}

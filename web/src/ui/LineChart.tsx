/** A small chart of lines over time (uPlot): gaps stay open, and what is hovered stays so while figures come in. */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { bucketName, tick } from "./chartTime";
import type { Series } from "./TimeChart";
import styles from "./TimeChart.module.css";

interface LineChartProps {
  title: string;
  /** Unix seconds, ascending. */
  times: readonly number[];
  /** Length of a step in seconds. */
  stepS: number;
  /** What the axis reaches over, in Unix seconds. */
  span: readonly [number, number];
  /** One value a time; null = no data then. */
  series: readonly Series[];
  format: (value: number) => string;
  formatAxis: (value: number) => string;
}

const HEIGHT = 116;

export function LineChart({ title, times, stepS, span, series, format, formatAxis }: LineChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const chart = useRef<uPlot>(null);
  const scheme = useComputedColorScheme("light");
  const [hovered, setHovered] = useState<number | null>(null);
  const present = useRef({ span, stepS });
  present.current = { span, stepS };
  const data = useRef<uPlot.AlignedData>([[]]);
  data.current = [times as number[], ...series.map((each) => each.values as (number | null)[])];
  const colors = series.map((each) => each.color).join();

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const token = (name: string): string => getComputedStyle(element).getPropertyValue(name).trim();
    const axis = { stroke: token("--sg-text-3"), grid: { stroke: token("--sg-line"), width: 1 }, ticks: { show: false }, font: `11px ${token("--sg-font")}` };
    const made = new uPlot(
      {
        width: element.clientWidth,
        height: HEIGHT,
        legend: { show: false },
        cursor: { y: false, points: { size: 6 }, drag: { setScale: false } },
        padding: [6, 8, 0, 0],
        scales: {
          x: { range: () => [...present.current.span] },
          y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.1 : 1] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 24, space: 64, values: (_u, splits) => splits.map((at) => tick(at, present.current.stepS)) },
          { ...axis, size: 60, space: 28, values: (_u, splits) => splits.map(formatAxis) },
        ],
        series: [
          {},
          ...colors.split(",").map((color) => ({ stroke: token(color), width: 1.5, spanGaps: false, points: { size: 4, fill: token(color), filter: alone } })),
        ],
        hooks: { setCursor: [(u: uPlot) => setHovered(u.cursor.idx ?? null)] },
      },
      data.current,
      element,
    );
    chart.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height: HEIGHT }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [colors, formatAxis, scheme]);

  useEffect(() => chart.current?.setData(data.current), [times, series, span]);

  const at = hovered !== null ? times[hovered] : undefined;
  return (
    <figure className={`${styles.figure} ${styles.small}`} aria-label={title}>
      <figcaption className={styles.legend}>
        <b>{title}</b>
        {series.map((each) => {
          const value = hovered !== null ? each.values[hovered] : undefined;
          return (
            <span key={each.name} className={styles.key}>
              <i style={{ background: `var(${each.color})` }} aria-hidden />
              {each.name}
              {at !== undefined ? <b>{value === null || value === undefined ? "—" : format(value)}</b> : null}
            </span>
          );
        })}
        <span className={styles.at}>{at !== undefined ? bucketName(at, stepS) : ""}</span>
      </figcaption>
      <div ref={box} className={styles.plot} style={{ height: HEIGHT }} aria-hidden />
    </figure>
  );
}

/** Points with no neighbour, which no line would show. */
function alone(u: uPlot, seriesIndex: number): number[] {
  const values = u.data[seriesIndex] ?? [];
  const found: number[] = [];
  for (let at = 0; at < values.length; at += 1) {
    if (values[at] != null && values[at - 1] == null && values[at + 1] == null) found.push(at);
  }
  return found;
}

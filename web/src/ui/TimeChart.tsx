/** Stacked bars over time (uPlot): the unit on the axis, gaps left open, a legend that tells the hovered figures. */
import { useComputedColorScheme } from "@mantine/core";
import { useEffect, useMemo, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { bucketName, tick } from "./chartTime";
import styles from "./TimeChart.module.css";

export interface Series {
  name: string;
  /** A token: `--sg-series-1`. */
  color: string;
  /** One value a time; null = no data then. */
  values: readonly (number | null)[];
}

interface TimeChartProps {
  label: string;
  /** Unix seconds at which each bucket begins, evenly spaced. */
  times: readonly number[];
  /** Length of a bucket in seconds. */
  bucketS: number;
  series: readonly Series[];
  format: (value: number) => string;
  formatAxis: (value: number) => string;
  height?: number;
}

export function TimeChart({ label, times, bucketS, series, format, formatAxis, height = 240 }: TimeChartProps) {
  const box = useRef<HTMLDivElement>(null);
  const scheme = useComputedColorScheme("light");
  const [hovered, setHovered] = useState<number | null>(null);
  const stacked = useMemo(() => stack(times.length, series), [times.length, series]);

  useEffect(() => {
    const element = box.current;
    if (!element) return;
    const token = (name: string): string => getComputedStyle(element).getPropertyValue(name).trim();
    const axis = { stroke: token("--sg-text-3"), grid: { stroke: token("--sg-line"), width: 1 }, ticks: { show: false }, font: `12px ${token("--sg-font")}` };
    const top = Math.max(...stacked.flat().map((value) => value ?? 0), 0);
    const bars = uPlot.paths.bars?.({ size: [0.72, 36], radius: 0.08 });
    const chart = new uPlot(
      {
        width: element.clientWidth,
        height,
        legend: { show: false },
        cursor: { y: false, points: { show: false }, drag: { setScale: false } },
        padding: [10, 8, 0, 0],
        scales: {
          x: { range: () => [(times[0] ?? 0) - bucketS / 2, (times.at(-1) ?? 1) + bucketS / 2] },
          y: { range: (_u, _min, max) => [0, max > 0 ? max * 1.08 : 1] },
        },
        axes: [
          { ...axis, grid: { show: false }, size: 30, space: 72, incrs: STEPS.map((step) => step * bucketS), values: (_u, splits) => splits.map((at) => tick(at, bucketS)) },
          // Where all is nought, the axis has no scale.
          { ...axis, size: 64, values: (_u, splits) => splits.map((at) => (at === 0 || top > 0 ? formatAxis(at) : "")) },
        ],
        series: [
          {},
          // The highest of a stack is drawn first and the lower ones over it.
          ...series.map((each) => ({ label: each.name, fill: token(each.color), width: 0, points: { show: false }, ...(bars ? { paths: bars } : {}) })),
        ],
        hooks: { setCursor: [(u: uPlot) => setHovered(u.cursor.idx ?? null)] },
      },
      [times as number[], ...(stacked as number[][])],
      element,
    );
    const observer = new ResizeObserver(() => chart.setSize({ width: element.clientWidth, height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      chart.destroy();
    };
  }, [times, bucketS, series, stacked, formatAxis, height, scheme]);

  const at = hovered !== null ? times[hovered] : undefined;
  return (
    <figure className={styles.figure} aria-label={label}>
      <figcaption className={styles.legend}>
        {series.map((each) => {
          const value = hovered !== null ? each.values[hovered] : undefined;
          return (
            <span key={each.name} className={styles.key}>
              <i style={{ background: `var(${each.color})` }} aria-hidden />
              {each.name}
              {hovered !== null ? <b>{value === null || value === undefined ? "—" : format(value)}</b> : null}
            </span>
          );
        })}
        <span className={styles.at}>{at !== undefined ? bucketName(at, bucketS) : ""}</span>
      </figcaption>
      <div ref={box} className={styles.plot} style={{ height }} aria-hidden />
    </figure>
  );
}

/** Ticks stand at every bucket, every second, … never between them. */
const STEPS = [1, 2, 3, 4, 6, 7, 12, 14, 24, 28];

/** Each series on top of those after it, so that drawing in order leaves every part visible. */
function stack(length: number, series: readonly Series[]): (number | null)[][] {
  return series.map((_, first) =>
    Array.from({ length }, (_unused, at) => {
      const parts = series.slice(first).map((each) => each.values[at] ?? null);
      return parts.every((part) => part === null) ? null : parts.reduce<number>((sum, part) => sum + (part ?? 0), 0);
    }),
  );
}

/** One route and target: who is slow, in words, and its figures over time. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState, type ReactNode } from "react";
import type { Distribution, RouteTelemetry } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Unknown } from "@/ui/Figure";
import { LineChart } from "@/ui/LineChart";
import { bytes, count, exact } from "@/units/count";
import { latency } from "@/units/time";
import { chartsOf, timesOf } from "./charts";
import styles from "./kernel.module.css";
import { seriesQuery, telemetryQuery, WINDOW_S, ZOOMS, type Zoom } from "./queries";
import { verdictOf, type Verdict } from "./verdict";
import { missingWhy, partialWhy } from "./words";

export function SeriesDrawer() {
  const { route } = useParams({ from: "/frame/kernel/$route" });
  const { target } = useSearch({ from: "/frame/kernel/$route" });
  const navigate = useNavigate();
  const may = useMay();
  const telemetry = useQuery(telemetryQuery).data;
  const figures = telemetry?.routes.find((each) => each.route === route && (each.target ?? undefined) === target);
  const close = useCallback(() => void navigate({ to: "/kernel", search: ({ range, sort }) => ({ range, sort }) }), [navigate]);
  const title = target ? `${route} → ${target}` : route;
  return (
    <Drawer title={title} label={t`Kernel figures of ${title}`} close={close}>
      <Part title={t`Who is slow, in the last ${WINDOW_S} s`}>
        {figures ? <WhoIsSlow figures={figures} /> : telemetry ? <p className={styles.headline}>{t`No traffic in the last ${WINDOW_S} s`}</p> : <Skeleton height={120} />}
      </Part>
      {target === undefined ? (
        <p className={styles.quiet}>
          <Trans>These requests never went upstream, so that there is nothing for the kernel to measure.</Trans>
        </p>
      ) : may("configuration:read") ? (
        <OverTime route={route} target={target} />
      ) : (
        <p className={styles.quiet}>
          <Trans>Figures over time are of all teams together, and are shown to the roles operator, viewer and above.</Trans>
        </p>
      )}
      {figures ? <Figures figures={figures} /> : null}
      {figures ? <Callers figures={figures} /> : null}
      <Link to="/requests" search={{ route, ...(target ? { target } : {}) }}>
        <Trans>Requests through this route and target</Trans>
      </Link>
    </Drawer>
  );
}

function WhoIsSlow({ figures }: { figures: RouteTelemetry }) {
  const verdict = verdictOf(figures, WINDOW_S);
  const missing = missingWhy(figures.sources.kernel);
  return (
    <div className={styles.verdict}>
      <p className={styles.headline}>{verdict.headline}</p>
      {missing && verdict.parts.every((part) => part.ms === null) ? (
        <p className={styles.quiet}>
          <Trans>The kernel's figures are not measured: {missing}.</Trans>
        </p>
      ) : (
        <Parts parts={verdict.parts} />
      )}
      {verdict.remarks.length > 0 ? (
        <ul className={styles.remarks}>
          {verdict.remarks.map((remark) => (
            <li key={remark}>{remark}</li>
          ))}
        </ul>
      ) : null}
    </div>
  );
}

function Parts({ parts }: { parts: Verdict["parts"] }) {
  const whole = parts.reduce((sum, part) => sum + (part.ms ?? 0), 0);
  return (
    <>
      <div className={styles.track} aria-hidden>
        {parts.map((part) => (
          <span key={part.party} data-party={part.party} style={{ width: whole > 0 ? `${((part.ms ?? 0) / whole) * 100}%` : 0 }} />
        ))}
      </div>
      <Facts
        facts={parts.map((part) => [
          part.label,
          <span key={part.party} className={styles.part} title={part.how}>
            {part.ms === null ? t`not measured` : part.belowMs > 0 ? `< ${latency(part.belowMs)}` : `≈ ${latency(part.ms)}`}
            <i data-party={part.party} aria-hidden />
          </span>,
        ])}
      />
    </>
  );
}

const FORMATS = {
  time: { format: latency, formatAxis: (ms: number): string => (ms >= 1000 ? `${Number((ms / 1000).toPrecision(3))} s` : `${Number(ms.toPrecision(3))} ms`) },
  count: { format: exact, formatAxis: count },
  bytes: { format: (n: number): string => `${bytes(n)}/s`, formatAxis: (n: number): string => `${bytes(n)}/s` },
} as const;

function OverTime({ route, target }: { route: string; target: string }) {
  const [zoom, setZoom] = useState<Zoom>("1s");
  const asked = useQuery(seriesQuery(route, target, zoom));
  const { stepS, spanS } = ZOOMS[zoom];
  const items = asked.data?.items;
  const missing = asked.data && missingWhy(asked.data.source);
  const times = useMemo(() => items && timesOf(items, stepS), [items, stepS]);
  const charts = useMemo(() => times && chartsOf(times, stepS), [times, stepS]);
  const endS = asked.dataUpdatedAt / 1000;
  const span = useMemo(() => [endS - spanS, endS] as const, [endS, spanS]);
  return (
    <Part title={t`Over time`}>
      <div className={styles.over}>
        <SegmentedControl
          size="xs"
          aria-label={t`Length and step`}
          value={zoom}
          onChange={(chosen) => setZoom(chosen as Zoom)}
          data={Object.entries(ZOOMS).map(([value, { label }]) => ({ value, label }))}
        />
        {asked.error && !items ? <Problem error={asked.error} again={() => void asked.refetch()} /> : null}
        {items?.length === 0 ? (
          <p className={styles.quiet}>
            {missing ? t`Nothing was measured in this time: ${missing}.` : t`Nothing was measured in this time. Steps in which nothing happened are left out.`}
          </p>
        ) : null}
        {times && charts && items && items.length > 0
          ? charts.map(({ title, unit, series }) => (
              <LineChart key={`${zoom} ${title}`} title={title} times={times.map((each) => each.atS)} stepS={stepS} span={span} series={series} {...FORMATS[unit]} />
            ))
          : null}
        {!items && !asked.error ? <Skeleton height={480} radius={8} /> : null}
      </div>
    </Part>
  );
}

/** What the table has no room for on a small screen, and what it leaves out. */
function Figures({ figures }: { figures: RouteTelemetry }) {
  const missing = missingWhy(figures.sources.kernel) ?? partialWhy(figures.sources.kernel);
  const unknown = <Unknown why={missing ? t`not measured: ${missing}` : t`not measured in the last ${WINDOW_S} s`} />;
  const times = (found: Distribution | null): ReactNode => (found ? `${latency(found.p50)}, p95 ${latency(found.p95)}` : unknown);
  const sides = (upstream: number | null, client: number | null, write: (n: number) => string): ReactNode =>
    upstream === null || client === null ? unknown : t`${write(upstream)} provider, ${write(client)} clients`;
  return (
    <Part title={t`In figures, of the last ${WINDOW_S} s`}>
      <Facts
        facts={[
          [t`Requests`, `${exact(figures.requests)}, ${plural(figures.errors, { one: "# error", other: "# errors" })}`],
          [t`First token, by the gateway's clock`, times(figures.ttft_ms)],
          [t`Connecting to the provider`, times(figures.connect_ms)],
          [t`New clients waited for a worker`, times(figures.accept_wait_ms)],
          [t`Open connections, now`, sides(figures.open_connections, figures.client_connections, exact)],
          [t`Segments sent again`, sides(figures.retransmits, figures.client_retransmits, exact)],
          [t`Received`, sides(figures.bytes_in, figures.client_bytes_in, bytes)],
          [t`Sent`, sides(figures.bytes_out, figures.client_bytes_out, bytes)],
        ]}
      />
    </Part>
  );
}

function Callers({ figures }: { figures: RouteTelemetry }) {
  if (figures.callers.length === 0) return null;
  return (
    <Part title={t`Callers, in the last ${WINDOW_S} s`}>
      <Facts
        facts={figures.callers.map((caller) => [
          [caller.app, caller.process, caller.user && t`user ${caller.user}`, caller.container && t`container ${caller.container}`].filter(Boolean).join(" · ") || t`unknown`,
          plural(caller.requests, { one: "# request", other: "# requests" }),
        ])}
      />
    </Part>
  );
}

/** Each route and target of the last minute, dense: the kernel's figures beside the gateway's own. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Link, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import type { Distribution, RouteTelemetry, Telemetry } from "@/api/model";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Unknown } from "@/ui/Figure";
import { bytes, exact } from "@/units/count";
import styles from "./kernel.module.css";
import { WINDOW_S } from "./queries";

interface RouteTableProps {
  telemetry: Telemetry | undefined;
  /** Why the kernel's figures, or some of them, are missing; undefined = they are there. */
  missing: string | undefined;
  error: unknown;
  again: () => void;
}

const idOf = (route: string, target: string | null | undefined): string => `${route} → ${target ?? ""}`;

export function RouteTable({ telemetry, missing, error, again }: RouteTableProps) {
  const navigate = useNavigate();
  const route = useParams({ strict: false, select: (params) => params.route });
  const search: { target?: string } = useSearch({ strict: false });
  const columns = useMemo(() => columnsWith(missing), [missing]);
  const open = useCallback(
    (row: RouteTelemetry) => void navigate({ to: "/kernel/$route", params: { route: row.route }, search: (old) => ({ ...old, target: row.target ?? undefined }) }),
    [navigate],
  );
  return (
    <DataTable
      label={t`Routes and targets`}
      columns={columns}
      rows={telemetry?.routes}
      rowId={(row) => idOf(row.route, row.target)}
      error={error}
      again={again}
      open={open}
      openId={route === undefined ? undefined : idOf(route, search.target)}
      dense
      empty={
        <Empty
          title={t`No traffic in the last ${WINDOW_S} s`}
          why={t`Each route and target that serves requests shows here within two seconds, and stays as long as it has open connections. Older figures: a route's drawer, or Requests.`}
          action={<Link to="/requests"><Trans>See older requests</Trans></Link>}
        />
      }
    />
  );
}

function columnsWith(missing: string | undefined): readonly Column<RouteTelemetry>[] {
  const why = missing ? t`not measured: ${missing}` : t`not measured in the last ${WINDOW_S} s`;
  const pair = (found: Distribution | null, upper: "p95" | "p99") => <Pair found={found} upper={upper} why={why} />;
  return [
    {
      id: "route",
      header: t`Route → target`,
      note: t`the last minute`,
      sortBy: (row) => idOf(row.route, row.target),
      cell: (row) => (
        <>
          <Link to="/kernel/$route" params={{ route: row.route }} search={(old) => ({ ...old, target: row.target ?? undefined })}>
            {row.route}
          </Link>
          <span className={styles.target}>→ {row.target ? <code>{row.target}</code> : t`nothing went upstream`}</span>
        </>
      ),
    },
    { id: "requests", header: t`Requests`, note: t`gateway`, number: true, sortBy: (row) => row.requests, cell: (row) => <Count n={row.requests} unit={t`requests`} /> },
    {
      id: "errors",
      header: t`Errors`,
      note: t`gateway`,
      number: true,
      hide: "phone",
      sortBy: (row) => row.errors,
      cell: (row) => <span className={row.errors > 0 ? styles.bad : undefined}>{exact(row.errors)}</span>,
    },
    { id: "client_rtt", header: t`Client RTT`, note: t`p50, ms`, number: true, hide: "tablet", sortBy: (row) => row.client_rtt_ms?.p50 ?? -1, cell: (row) => <One found={row.client_rtt_ms} why={why} /> },
    { id: "rtt", header: t`RTT`, note: t`p50 · p95, ms`, number: true, hide: "phone", sortBy: (row) => row.rtt_ms?.p50 ?? -1, cell: (row) => pair(row.rtt_ms, "p95") },
    { id: "first_byte", header: t`First byte`, note: t`p50 · p95, ms`, number: true, sortBy: (row) => row.first_byte_ms?.p50 ?? -1, cell: (row) => pair(row.first_byte_ms, "p95") },
    {
      id: "ttft",
      header: t`First token`,
      note: t`gateway, p50, ms`,
      number: true,
      hide: "tablet",
      sortBy: (row) => row.ttft_ms?.p50 ?? -1,
      cell: (row) => <One found={row.ttft_ms} why={t`no answer had a first token`} />,
    },
    { id: "gap", header: t`Token gap`, note: t`p50 · p99, ms`, number: true, hide: "phone", sortBy: (row) => row.token_gap_ms?.p50 ?? -1, cell: (row) => pair(row.token_gap_ms, "p99") },
    {
      id: "retransmits",
      header: t`Retrans.`,
      note: t`segments`,
      number: true,
      hide: "tablet",
      sortBy: (row) => row.retransmits ?? -1,
      cell: (row) => <Bad n={row.retransmits} unit={t`segments sent again to the provider`} why={why} />,
    },
    { id: "resets", header: t`Resets`, note: t`both sides`, number: true, hide: "tablet", sortBy: (row) => row.resets ?? -1, cell: (row) => <Bad n={row.resets} unit={t`resets, on either side`} why={why} /> },
    { id: "open", header: t`Open`, note: t`now`, number: true, hide: "tablet", sortBy: (row) => row.open_connections ?? -1, cell: (row) => <Count n={row.open_connections} unit={t`connections to the provider`} why={why} /> },
    { id: "in", header: t`In`, note: t`per s`, number: true, hide: "tablet", sortBy: (row) => row.bytes_in ?? -1, cell: (row) => <Rate total={row.bytes_in} told={(n) => t`${n} bytes from the provider in the last ${WINDOW_S} s`} why={why} /> },
    { id: "out", header: t`Out`, note: t`per s`, number: true, hide: "tablet", sortBy: (row) => row.bytes_out ?? -1, cell: (row) => <Rate total={row.bytes_out} told={(n) => t`${n} bytes to the provider in the last ${WINDOW_S} s`} why={why} /> },
    { id: "callers", header: t`Callers`, note: t`gateway`, hide: "tablet", cell: (row) => <Callers row={row} /> },
  ];
}

/** Milliseconds without their unit, which stands in the head: three significant figures. */
const ms = (value: number): string => (value >= 100 ? exact(Math.round(value)) : String(Number(value.toPrecision(value < 1 ? 2 : 3))));

const hover = ({ p50, p95, p99, count }: Distribution): string =>
  t`p50 ${p50} ms, p95 ${p95} ms, p99 ${p99} ms of ${plural(count, { one: "# measurement", other: "# measurements" })}`;

function One({ found, why }: { found: Distribution | null; why: string }) {
  return found ? <span title={hover(found)}>{ms(found.p50)}</span> : <Unknown why={why} />;
}

function Pair({ found, upper, why }: { found: Distribution | null; upper: "p95" | "p99"; why: string }) {
  if (!found) return <Unknown why={why} />;
  return (
    <span title={hover(found)}>
      {ms(found.p50)} <span className={styles.upper}>· {ms(found[upper])}</span>
    </span>
  );
}

function Bad({ n, unit, why }: { n: number | null; unit: string; why: string }) {
  return <span className={n ? styles.bad : undefined}>{<Count n={n} unit={unit} why={why} />}</span>;
}

function Rate({ total, told, why }: { total: number | null; told: (n: string) => string; why: string }) {
  if (total === null) return <Unknown why={why} />;
  return <span title={told(exact(total))}>{bytes(total / WINDOW_S)}</span>;
}

/** The one with the most requests; all of them on hover and in the drawer. */
function Callers({ row }: { row: RouteTelemetry }) {
  const [first, ...others] = row.callers;
  if (!first) return <Unknown why={t`no requests in this time: open connections only`} />;
  return (
    <span title={row.callers.map((caller) => `${callerName(caller)}: ${plural(caller.requests, { one: "# request", other: "# requests" })}`).join("\n")}>
      {callerName(first)}
      {others.length > 0 ? ` +${others.length}` : ""}
    </span>
  );
}

export const callerName = (caller: RouteTelemetry["callers"][number]): string => caller.process ?? caller.app ?? caller.container ?? caller.user ?? t`unknown`;

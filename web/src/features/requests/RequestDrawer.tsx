/** One request: what became of it, where its time went, what it cost, whose it was. */
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { LedgerRow } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Id } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Count, Latency, Money, Unknown, When } from "@/ui/Figure";
import { latency } from "@/units/time";
import { plural } from "@/units/count";
import { OutcomeMark } from "./outcome";
import { requestQuery } from "./queries";
import { costWhy, tokensWhy } from "./RequestsPage";
import styles from "./requests.module.css";

export function RequestDrawer() {
  const { id } = useParams({ from: "/frame/requests/$id" });
  const navigate = useNavigate();
  const request = useQuery(requestQuery(id));
  const close = useCallback(() => void navigate({ to: "/requests", search: (old) => old }), [navigate]);
  const row = request.data;
  return (
    <Drawer title={row ? `${row.route ?? "Request"} for ${row.app}` : "Request"} label="Request" close={close}>
      {request.error ? <Problem error={request.error} again={() => void request.refetch()} /> : null}
      {row ? <Details row={row} /> : request.error ? null : <Skeleton height={320} />}
    </Drawer>
  );
}

function Details({ row }: { row: LedgerRow }) {
  return (
    <>
      <div className={styles.state}>
        <OutcomeMark row={row} />
        <span>
          <When at={row.started_at} /> (<Ago at={row.started_at} />)
        </span>
        <Id text={row.id} what="request id" />
      </div>
      {row.error_code ? (
        <Facts facts={[["Error", <code key="code">{row.error_code}</code>]]} />
      ) : null}
      <Part title="Time">
        <TimeAxis row={row} />
      </Part>
      <Part title="Cost">
        <CostSum row={row} />
      </Part>
      <Part title="Way">
        <Facts
          facts={[
            ["Route", row.route ? <Link key="r" to="/routes/$name" params={{ name: row.route }}>{row.route}</Link> : <Unknown key="r" why="no route fitted" />],
            ["Target", row.target ? <code key="t">{row.target}</code> : <Unknown key="t" why="nothing went upstream" />],
            ["Model", row.model ? <code key="m">{row.model}</code> : <Unknown key="m" why="the request named none" />],
            ["Caller's dialect", row.stream ? `${row.dialect}, streamed` : row.dialect],
            ["Attempts", row.attempts === 0 ? "none went upstream" : plural(row.attempts, "attempt")],
            ["Status to the caller", row.status === 0 ? <Unknown key="s" why="no answer was begun" /> : row.status],
            ["Status of the provider", row.upstream_status ?? <Unknown key="u" why="no answer came" />],
          ]}
        />
      </Part>
      <Part title="Identity">
        <Facts
          facts={[
            ["Team", row.team],
            ["App", <Link key="a" to="/apps/$name" params={{ name: row.app }}>{row.app}</Link>],
            ["Key", row.key ?? <Unknown key="k" why="identified by its source" />],
            ["Client address", row.client_ip ? <code key="ip">{row.client_ip}</code> : <Unknown key="ip" why="not recorded" />],
            ...(row.process ? ([["Process", row.process]] as const) : []),
            ...(row.user ? ([["User", row.user]] as const) : []),
            ...(row.container ? ([["Container", row.container]] as const) : []),
            ["Client's own request id", row.client_request_id ? <Id key="c" text={row.client_request_id} what="client request id" /> : <Unknown key="c" why="the client sent none" />],
          ]}
        />
      </Part>
    </>
  );
}

/** From admission to the answer's end: waiting for the first token, then the answer itself. */
function TimeAxis({ row }: { row: LedgerRow }) {
  if (row.latency_ms === null) return <Unknown why="the request has not ended, or its end was not seen" />;
  const first = row.ttft_ms === null ? null : Math.min(row.ttft_ms, row.latency_ms);
  const waiting = first ?? row.latency_ms;
  const part = row.latency_ms > 0 ? (waiting / row.latency_ms) * 100 : 100;
  return (
    <div className={styles.axis}>
      <div className={styles.track} role="img" aria-label={`First token after ${latency(waiting)}, end after ${latency(row.latency_ms)}`}>
        <span className={styles.waiting} style={{ width: `${part}%` }} />
        <span className={styles.answering} style={{ width: `${100 - part}%` }} />
      </div>
      <div className={styles.scale}>
        <span>0</span>
        <span>
          <Latency ms={row.latency_ms} />
        </span>
      </div>
      <div className={styles.phases}>
        <span>
          <i className={styles.waiting} />
          {first === null ? "Until the answer, no first token was marked" : "To the first token"} <Latency ms={waiting} />
        </span>
        {first !== null ? (
          <span>
            <i className={styles.answering} />
            Answering <Latency ms={row.latency_ms - first} />
            {speed(row, first)}
          </span>
        ) : null}
      </div>
    </div>
  );
}

/** Output tokens a second after the first; only said where both are known and the stream lasted. */
function speed(row: LedgerRow, firstMs: number): string {
  const answeringMs = (row.latency_ms ?? 0) - firstMs;
  if (!row.stream || !row.output_tokens || row.output_tokens < 2 || answeringMs < 50) return "";
  return `, ${Math.round((row.output_tokens - 1) / (answeringMs / 1000))} tokens a second`;
}

/** Tokens by kind, as they add up to what is charged. */
function CostSum({ row }: { row: LedgerRow }) {
  const cached = row.cached_tokens ?? 0;
  const written = row.cache_write_tokens ?? 0;
  const reasoning = row.reasoning_tokens ?? 0;
  const kinds: readonly (readonly [string, number | null])[] = [
    ["Input", row.input_tokens === null ? null : row.input_tokens - cached - written],
    ["Input, cached", cached || null],
    ["Input, written to cache", written || null],
    ["Output", row.output_tokens === null ? null : row.output_tokens - reasoning],
    ["Output, reasoning", reasoning || null],
  ];
  const shown = kinds.filter(([name, tokens]) => tokens !== null || name === "Input" || name === "Output");
  return (
    <table className={styles.sum}>
      <thead>
        <tr>
          <th scope="col">Tokens</th>
          <th scope="col">Count</th>
        </tr>
      </thead>
      <tbody>
        {shown.map(([name, tokens]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td>
              <Count n={tokens} unit="tokens" estimated={row.estimated} why={tokensWhy(row)} />
            </td>
          </tr>
        ))}
        {row.overrun > 0 ? (
          <tr>
            <th scope="row">Beyond its own reservation</th>
            <td>
              <Count n={row.overrun} unit="tokens" />
            </td>
          </tr>
        ) : null}
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">Charged</th>
          <td>
            <Money micros={row.cost_usd_micros} estimated={row.estimated} why={costWhy(row)} />
          </td>
        </tr>
      </tfoot>
    </table>
  );
}

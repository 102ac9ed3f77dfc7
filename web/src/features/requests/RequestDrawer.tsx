/** One request: what became of it, where its time went, what it cost, whose it was. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
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
import { Bodies } from "./Bodies";
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
    <Drawer title={row ? (row.route ? t`${row.route} for ${row.app}` : t`Request for ${row.app}`) : t`Request`} label={t`Request`} close={close}>
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
        <Id text={row.id} what={t`request id`} />
      </div>
      {row.error_code ? (
        <Facts facts={[[t`Error`, <code key="code">{row.error_code}</code>]]} />
      ) : null}
      <Part title={t`Time`}>
        <TimeAxis row={row} />
      </Part>
      <Part title={t`Cost`}>
        <CostSum row={row} />
      </Part>
      <Part title={t`Way`}>
        <Facts
          facts={[
            [t`Route`, row.route ? <Link key="r" to="/routes/$name" params={{ name: row.route }}>{row.route}</Link> : <Unknown key="r" why={t`no route fitted`} />],
            [t`Target`, row.target ? <code key="t">{row.target}</code> : <Unknown key="t" why={t`nothing went upstream`} />],
            [t`Model`, row.model ? <code key="m">{row.model}</code> : <Unknown key="m" why={t`the request named none`} />],
            [t`Caller's dialect`, row.stream ? t`${row.dialect}, streamed` : row.dialect],
            [t`Attempts`, row.attempts === 0 ? t`none went upstream` : plural(row.attempts, { one: "# attempt", other: "# attempts" })],
            [t`Status to the caller`, row.status === 0 ? <Unknown key="s" why={t`no answer was begun`} /> : row.status],
            [t`Status of the provider`, row.upstream_status ?? <Unknown key="u" why={t`no answer came`} />],
          ]}
        />
      </Part>
      <Bodies key={row.id} row={row} />
      <Part title={t`Identity`}>
        <Facts
          facts={[
            [t`Team`, row.team],
            [t`App`, <Link key="a" to="/apps/$name" params={{ name: row.app }}>{row.app}</Link>],
            [t`Key`, row.key ?? <Unknown key="k" why={t`identified by its source`} />],
            [t`Client address`, row.client_ip ? <code key="ip">{row.client_ip}</code> : <Unknown key="ip" why={t`not recorded`} />],
            ...(row.process ? ([[t`Process`, row.process]] as const) : []),
            ...(row.user ? ([[t`User`, row.user]] as const) : []),
            ...(row.container ? ([[t`Container`, row.container]] as const) : []),
            [t`Client's own request id`, row.client_request_id ? <Id key="c" text={row.client_request_id} what={t`client request id`} /> : <Unknown key="c" why={t`the client sent none`} />],
          ]}
        />
      </Part>
    </>
  );
}

/** From admission to the answer's end: waiting for the first token, then the answer itself. */
function TimeAxis({ row }: { row: LedgerRow }) {
  if (row.latency_ms === null) return <Unknown why={t`the request has not ended, or its end was not seen`} />;
  const first = row.ttft_ms === null ? null : Math.min(row.ttft_ms, row.latency_ms);
  const waiting = first ?? row.latency_ms;
  const part = row.latency_ms > 0 ? (waiting / row.latency_ms) * 100 : 100;
  return (
    <div className={styles.axis}>
      <div className={styles.track} role="img" aria-label={t`First token after ${latency(waiting)}, end after ${latency(row.latency_ms)}`}>
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
          {first === null ? t`Until the answer, no first token was marked` : t`To the first token`} <Latency ms={waiting} />
        </span>
        {first !== null ? (
          <span>
            <i className={styles.answering} />
            <Trans>
              Answering <Latency ms={row.latency_ms - first} />
            </Trans>
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
  const perSecond = Math.round((row.output_tokens - 1) / (answeringMs / 1000));
  return t`, ${plural(perSecond, { one: "# token", other: "# tokens" })} a second`;
}

/** Tokens by kind, as they add up to what is charged. */
function CostSum({ row }: { row: LedgerRow }) {
  const cached = row.cached_tokens ?? 0;
  const written = row.cache_write_tokens ?? 0;
  const reasoning = row.reasoning_tokens ?? 0;
  const kinds: readonly (readonly [string, number | null, "always"?])[] = [
    [t`Input`, row.input_tokens === null ? null : row.input_tokens - cached - written, "always"],
    [t`Input, cached`, cached || null],
    [t`Input, written to cache`, written || null],
    [t`Output`, row.output_tokens === null ? null : row.output_tokens - reasoning, "always"],
    [t`Output, reasoning`, reasoning || null],
  ];
  const shown = kinds.filter(([, tokens, always]) => always || tokens !== null);
  return (
    <table className={styles.sum}>
      <thead>
        <tr>
          <th scope="col">{t`Tokens`}</th>
          <th scope="col">{t`Count`}</th>
        </tr>
      </thead>
      <tbody>
        {shown.map(([name, tokens]) => (
          <tr key={name}>
            <th scope="row">{name}</th>
            <td>
              <Count n={tokens} unit={t`tokens`} estimated={row.estimated} why={tokensWhy(row)} />
            </td>
          </tr>
        ))}
        {row.overrun > 0 ? (
          <tr>
            <th scope="row">{t`Beyond its own reservation`}</th>
            <td>
              <Count n={row.overrun} unit={t`tokens`} />
            </td>
          </tr>
        ) : null}
      </tbody>
      <tfoot>
        <tr>
          <th scope="row">{t`Charged`}</th>
          <td>
            <Money micros={row.cost_usd_micros} estimated={row.estimated} why={costWhy(row)} />
          </td>
        </tr>
      </tfoot>
    </table>
  );
}

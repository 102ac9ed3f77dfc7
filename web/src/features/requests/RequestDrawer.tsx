/** One request: what became of it, where its time went, what it cost, whose it was. */
import { plural, t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { LedgerRow } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Id } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Unknown, When } from "@/ui/Figure";
import { Bodies } from "./Bodies";
import { CostSum } from "./CostSum";
import { OutcomeMark } from "./outcome";
import { requestQuery } from "./queries";
import styles from "./requests.module.css";
import { TimeAxis } from "./TimeAxis";

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
        {row.route ? (
          <nav className={styles.why} aria-label={t`Why it went this way`}>
            <Link to="/explain" search={questionOf(row)}>{t`Why this target?`}</Link>
            <Link to="/explain" search={questionOf(row)} hash="limits">{t`Which limits?`}</Link>
            <Link to="/flows" search={{ app: row.app, ...(row.route ? { route: row.route } : {}) }}>{t`This way in Flows`}</Link>
          </nav>
        ) : null}
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

/** The same request asked again: explained as of now. */
const questionOf = (row: LedgerRow) => ({
  route: row.route ?? "",
  app: row.app,
  ...(row.key ? { key: row.key } : {}),
  ...(row.input_tokens === null ? {} : { input: row.input_tokens }),
  ...(row.output_tokens === null ? {} : { output: row.output_tokens }),
});

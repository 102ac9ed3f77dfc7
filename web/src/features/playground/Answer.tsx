/** One answer as it arrives, and what it cost: by the browser's clock at once, by the ledger when its row is there. */
import { Trans } from "@lingui/react/macro";
import { t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import type { LedgerRow } from "@/api/model";
import { OutcomeMark } from "@/features/requests/outcome";
import { costWhy, tokensWhy } from "@/features/requests/RequestsPage";
import { Problem } from "@/ui/Answer";
import { CopyIcon, Id } from "@/ui/Copy";
import { Count, Latency, Money, Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { span } from "@/units/time";
import styles from "./playground.module.css";
import { ledgerRowQuery } from "./queries";
import type { Play } from "./usePlay";

interface AnswerProps {
  title: string;
  app: string;
  play: Play;
}

export function Answer({ title, app, play }: AnswerProps) {
  const id = play.state === "running" ? null : (play.head?.requestId ?? null);
  const found = useQuery({ ...ledgerRowQuery(id ?? "", app), enabled: id !== null });
  const row = found.data ?? undefined;
  const end = useRef<HTMLDivElement>(null);
  const length = play.text.length;
  useEffect(() => {
    const box = end.current?.parentElement;
    if (box && box.scrollHeight - box.scrollTop - box.clientHeight < 80) box.scrollTop = box.scrollHeight;
  }, [length]);
  return (
    <section className={styles.answer} aria-label={title}>
      <header className={styles.answerHead}>
        <h2>
          <code>{title}</code>
        </h2>
        <State play={play} row={row} />
      </header>
      <div className={styles.text} tabIndex={0} role="log" aria-label={t`Answer of ${title}`} aria-busy={play.state === "running" && length === 0}>
        {play.error ? <Problem error={play.error} /> : null}
        {play.refusal !== null ? <Refusal play={play} /> : null}
        {play.state === "idle" ? (
          <p className={styles.hint}>
            <Trans>The answer appears here as it arrives, with its tokens, cost and time to the first token.</Trans>
          </p>
        ) : null}
        {length > 0 ? <div dir="auto">{play.text}</div> : null}
        <div ref={end} />
      </div>
      <Figures play={play} row={row} missing={found.data === null || found.isError} />
      {play.head?.requestId ? (
        <footer className={styles.answerFoot}>
          {row ? (
            <Link to="/requests/$id" params={{ id: play.head.requestId }}>
              <Trans>Its request in the ledger</Trans>
            </Link>
          ) : null}
          <Id text={play.head.requestId} what={t`request id`} />
          {length > 0 ? <CopyIcon text={play.text} what={t`the answer`} /> : null}
        </footer>
      ) : null}
    </section>
  );
}

function State({ play, row }: { play: Play; row: LedgerRow | undefined }) {
  if (row) return <OutcomeMark row={row} />;
  switch (play.state) {
    case "idle":
      return null;
    case "running":
      return <Mark tone="info">{play.text === "" ? t`Waiting` : t`Answering`}</Mark>;
    case "ended":
      return <Mark tone="ok">{t`Ended`}</Mark>;
    case "stopped":
      return <Mark tone="warn">{t`Stopped by you`}</Mark>;
    case "failed":
      return <Mark tone="bad">{play.head ? t`Refused with ${play.head.status}` : t`No answer`}</Mark>;
  }
}

function Refusal({ play }: { play: Play }) {
  return (
    <div className={styles.refusal} role="alert">
      <p>
        <strong>{play.head?.status}</strong> {play.refusal}
      </p>
      {play.head?.retryAfterS ? (
        <p>
          <Trans>Waiting helps: try again in {span(play.head.retryAfterS)}.</Trans>
        </p>
      ) : null}
    </div>
  );
}

/** The ledger's figures where they are there; until then only what the browser has measured. */
function Figures({ play, row, missing }: { play: Play; row: LedgerRow | undefined; missing: boolean }) {
  if (play.state === "idle") return null;
  const why = play.state === "running" ? t`told when the answer has ended` : missing ? t`the ledger has no row of it: the call was not known as an app's` : t`the ledger's row is awaited`;
  const totalMs = row?.latency_ms ?? play.endMs;
  const firstMs = row?.ttft_ms ?? play.firstMs;
  const answeringS = totalMs !== null && firstMs !== null ? (totalMs - firstMs) / 1000 : 0;
  const rate = row?.stream && row.output_tokens && row.output_tokens > 1 && answeringS > 0.05 ? Math.round(row.output_tokens / answeringS) : null;
  return (
    <dl className={styles.figures}>
      <div>
        <dt>{t`First token`}</dt>
        <dd>{row && row.ttft_ms === null ? <Unknown why={t`not streamed, or it never came`} /> : <Latency ms={firstMs} why={why} />}</dd>
      </div>
      <div>
        <dt>{t`Whole answer`}</dt>
        <dd>
          <Latency ms={totalMs} why={why} />
        </dd>
      </div>
      <div>
        <dt>{t`Tokens in`}</dt>
        <dd>{row ? <Count n={row.input_tokens} unit="tokens" estimated={row.estimated} why={tokensWhy(row)} /> : <Unknown why={why} />}</dd>
      </div>
      <div>
        <dt>{t`Tokens out`}</dt>
        <dd>
          {row ? <Count n={row.output_tokens} unit="tokens" estimated={row.estimated} why={tokensWhy(row)} /> : <Unknown why={why} />}
          {rate === null ? null : <small> {t`${rate} a second`}</small>}
        </dd>
      </div>
      <div>
        <dt>{t`Cost`}</dt>
        <dd>{row ? <Money micros={row.cost_usd_micros} estimated={row.estimated} why={costWhy(row)} /> : <Unknown why={why} />}</dd>
      </div>
      <div>
        <dt>{t`Served by`}</dt>
        <dd>{row?.target || play.head?.target ? <code>{row?.target ?? play.head?.target}</code> : <Unknown why={t`nothing went upstream`} />}</dd>
      </div>
    </dl>
  );
}

/** What the route has recorded of a request: asked for by a click, since each reading is written to the audit log. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, SegmentedControl, Skeleton } from "@mantine/core";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";
import { api, unwrap } from "@/api/client";
import type { LedgerRow, RecordedBody } from "@/api/model";
import { ApiProblem } from "@/api/problem";
import { useMay } from "@/api/session";
import { routeQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { CopyIcon } from "@/ui/Copy";
import { Part } from "@/ui/Drawer";
import { Mark } from "@/ui/Mark";
import { bytes, exact } from "@/units/count";
import { parsed, spoken } from "./bodyText";
import { JsonTree } from "./JsonTree";
import styles from "./bodies.module.css";

const bodiesQuery = (id: string) =>
  queryOptions({
    queryKey: ["bodies", id],
    queryFn: () => unwrap(api.GET("/api/v1/ledger/{id}/bodies", { params: { path: { id } } })),
    staleTime: Infinity,
    gcTime: 0,
    retry: false,
    refetchOnWindowFocus: false,
  });

/** To be given the row's id as its key. */
export function Bodies({ row }: { row: LedgerRow }) {
  const may = useMay();
  const [asked, setAsked] = useState(false);
  const readable = may("bodies:read");
  const route = useQuery({ ...routeQuery(row.route ?? ""), enabled: readable && row.route !== null, retry: false }).data;
  const found = useQuery({ ...bodiesQuery(row.id), enabled: asked });
  if (!readable || row.route === null) return null;
  const off = route !== undefined && route.capture === null;
  return (
    <Part title={t`Bodies`}>
      {found.data ? (
        <>
          <OneBody title={t`Request`} body={found.data.request} />
          <OneBody title={t`Answer`} body={found.data.response} />
        </>
      ) : found.error ? (
        <WhyNot error={found.error} again={() => void found.refetch()} />
      ) : asked ? (
        <Skeleton height={120} />
      ) : (
        <>
          <p className={styles.line}>
            {off ? (
              <Trans>
                Not recorded: off for this route. It can be turned on <Link to="/routes/$name" params={{ name: row.route }}>where the route is</Link>.
              </Trans>
            ) : (
              <Trans>Reading them is written to the audit log.</Trans>
            )}
          </p>
          <Button size="xs" variant="default" onClick={() => setAsked(true)}>
            {off ? <Trans>Look for what was recorded before</Trans> : <Trans>Show request and answer</Trans>}
          </Button>
        </>
      )}
    </Part>
  );
}

/** There are none, which is no failure; anything else is. */
function WhyNot({ error, again }: { error: unknown; again: () => void }) {
  const problem = ApiProblem.of(error);
  if (problem.code !== "not_recorded") return <Problem error={error} again={again} />;
  return (
    <div className={styles.none}>
      <Mark tone="idle">
        <Trans>Not recorded</Trans>
      </Mark>
      <p className={styles.line}>{problem.message}</p>
      <p className={styles.line}>{problem.fix}</p>
    </div>
  );
}

type Shown = "read" | "raw";

function OneBody({ title, body }: { title: string; body: RecordedBody }) {
  const [shown, setShown] = useState<Shown>("read");
  const text = body.text;
  return (
    <section className={styles.body} aria-label={title}>
      <div className={styles.head}>
        <h4>{title}</h4>
        <span className={styles.kind}>
          {body.content_type || <Trans>no type given</Trans>}, {bytes(body.size)}
        </span>
        <Marks body={body} />
        {text ? (
          <span className={styles.tools}>
            <SegmentedControl
              size="xs"
              value={shown}
              onChange={(value) => setShown(value as Shown)}
              aria-label={t`How ${title} is shown`}
              data={[
                { value: "read", label: body.stream ? t`Text` : t`Folded` },
                { value: "raw", label: t`Raw` },
              ]}
            />
            <CopyIcon text={text} what={title} />
          </span>
        ) : null}
      </div>
      {text === null ? <p className={styles.line}>{whyNot(body)}</p> : shown === "raw" ? <Run text={text} label={title} mono /> : <Readable body={body} text={text} label={title} />}
    </section>
  );
}

function Marks({ body }: { body: RecordedBody }) {
  const taken = Object.values(body.redacted).reduce((sum, n) => sum + n, 0);
  return (
    <>
      {taken > 0 ? (
        <Mark tone="info" title={Object.entries(body.redacted).map(([what, n]) => `[${what}] × ${exact(n)}`).join(", ")}>
          {plural(taken, { one: "# redacted", other: "# redacted" })}
        </Mark>
      ) : null}
      {body.cut ? (
        <Mark tone="warn" title={t`There was more than the route keeps of one body`}>
          <Trans>Cut</Trans>
        </Mark>
      ) : null}
    </>
  );
}

function Readable({ body, text, label }: { body: RecordedBody; text: string; label: string }) {
  if (body.stream) {
    const words = spoken(text);
    return words ? <Run text={words} label={label} /> : <p className={styles.line}>{t`Its events hold no text; Raw shows them.`}</p>;
  }
  const value = parsed(text);
  return value === undefined ? <Run text={text} label={label} /> : <JsonTree value={value} label={label} />;
}

/** Text of anybody's, in whatever direction each of its lines is written. */
function Run({ text, label, mono = false }: { text: string; label: string; mono?: boolean }): ReactNode {
  return (
    <pre className={styles.run} data-mono={mono} dir="auto" tabIndex={0} aria-label={label}>
      {text}
    </pre>
  );
}

function whyNot(body: RecordedBody): string {
  switch (body.why_not) {
    case "off":
      return t`The route does not record it.`;
    case "empty":
      return t`There was none.`;
    case "binary":
      return t`Not kept: it is no text.`;
    case "encoded":
      return t`Not kept: it came in a coding that the gateway does not read.`;
    case "tunnel":
      return t`Not kept: the connection became a tunnel.`;
    case "busy":
      return t`Not kept: the worker had no memory left for it.`;
    default:
      return t`Not kept.`;
  }
}

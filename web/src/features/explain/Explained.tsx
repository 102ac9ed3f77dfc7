/** The answer: outcome, match, access, and the targets in the order in which they would be tried. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useLocation } from "@tanstack/react-router";
import { useEffect, useRef } from "react";
import type { components } from "@/api/schema";
import { Facts } from "@/ui/Drawer";
import { Latency, Money, Unknown } from "@/ui/Figure";
import { Mark, type Tone } from "@/ui/Mark";
import { Told } from "@/ui/Told";
import { count, exact } from "@/units/count";
import styles from "./explain.module.css";

type Answer = components["schemas"]["ExplainAnswer"];
type TargetAnswer = Answer["targets"][number];
type Room = TargetAnswer["limits"][number];

const STATES: Readonly<Record<TargetAnswer["state"], { tone: Tone; word: string }>> = {
  ready: { tone: "ok", word: t`Ready` },
  half_open: { tone: "warn", word: t`On trial` },
  cooling: { tone: "warn", word: t`Cooling` },
  down: { tone: "bad", word: t`Down` },
};

export function Explained({ told }: { told: Answer }) {
  const { outcome } = told;
  const hash = useLocation({ select: (location) => location.hash });
  const good = outcome.status === 200;
  return (
    <>
      <div className={styles.outcome} data-good={good || undefined} data-open={outcome.status === null || undefined}>
        <Mark tone={good ? "ok" : outcome.status === null ? "warn" : "bad"}>
          {good ? t`${outcome.target ?? ""} would answer` : outcome.status === null ? t`It cannot be told now` : t`Refused: ${outcome.status} ${outcome.code ?? ""}`}
        </Mark>
        <p lang="en">{outcome.reason}</p>
      </div>
      <Facts
        facts={[
          [t`Comes to this route`, <Verdict key="m" good={told.claimed} words={told.match} />],
          [t`May call it`, told.allowed === null ? <Unknown key="a" why={t`no app was named`} /> : <Verdict key="a" good={told.allowed} words={told.access} />],
          [t`Spoken`, told.dialect],
          ...(told.dialect === "http" ? [] : ([[t`Would reserve`, t`${exact(told.input_tokens)} input and ${exact(told.output_tokens)} output tokens`]] as const)),
          [t`Attempts, at most`, exact(told.attempts)],
        ]}
      />
      <h2>
        <Trans>Targets, in the order in which they would be tried</Trans>
      </h2>
      {told.targets.length === 0 ? (
        <p className={styles.quiet}>
          <Trans>None.</Trans>
        </p>
      ) : null}
      <ol className={styles.targets}>
        {told.targets.map((target, index) => (
          <Target key={target.target} target={target} asked={index === 0 && hash === LIMITS} />
        ))}
      </ol>
      {told.skipped.length > 0 ? (
        <p className={styles.quiet}>
          <Trans>Not tried:</Trans> <Told>{told.skipped.map((each) => `${each.target} (${each.reason})`).join(", ")}</Told>
        </p>
      ) : null}
      <p className={styles.quiet}>
        <Trans>
          Answered by the worker with process {told.worker.pid}, by configuration {exact(told.worker.generation)}.
        </Trans>{" "}
        {told.worker.workers ? plural(told.worker.workers.length, { one: "It is this node's only one.", other: "This node has # of them, and each has its own view of health and load." }) : null}
      </p>
    </>
  );
}

/** The address's end of who asks for the limits: they come into sight. */
const LIMITS = "limits";

function Target({ target, asked }: { target: TargetAnswer; asked: boolean }) {
  const { tone, word } = STATES[target.state];
  const limits = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!asked) return;
    limits.current?.scrollIntoView({ block: "center" });
    limits.current?.focus({ preventScroll: true });
  }, [asked]);
  return (
    <li className={styles.target}>
      <div className={styles.targetHead}>
        <code>{target.target}</code>
        <Mark tone={tone}>{word}</Mark>
        {target.admits === false ? <Mark tone="bad">{t`A limit has no room`}</Mark> : null}
      </div>
      <ul className={styles.reasons}>
        {target.reasons.map((reason) => (
          <li key={reason} lang="en">
            {reason}
          </li>
        ))}
      </ul>
      <Facts
        facts={[
          ...(target.model ? ([[t`Costs, at most`, <Money key="c" micros={target.cost_bound_usd === null ? null : Math.round(target.cost_bound_usd * 1e6)} />]] as const) : []),
          [t`Time to the first byte, here`, <Latency key="l" ms={target.ttft_ms} why={t`no request of this worker has been answered by it yet`} />],
          [t`In flight, here`, exact(target.in_flight)],
          ...(target.credential ? ([[t`Would show the credential`, <code key="k">{target.credential}</code>]] as const) : []),
          ...(target.credentials_aside.length > 0 ? ([[t`Set aside`, target.credentials_aside.join(", ")]] as const) : []),
        ]}
      />
      <div ref={limits} tabIndex={-1} {...(asked ? { id: LIMITS } : {})}>
        {target.limits.length > 0 ? (
          <table className={styles.limits} aria-label={t`Limits that apply on ${target.target}`}>
            <thead>
              <tr>
                <th scope="col">{t`Limit`}</th>
                <th scope="col" data-number>{t`Left`}</th>
                <th scope="col" data-number>{t`Needs`}</th>
                <th scope="col">{t`Room`}</th>
              </tr>
            </thead>
            <tbody>
              {target.limits.map((room, index) => (
                <tr key={room.limit ?? index}>
                  <td>
                    {room.limit ?? <Unknown why={t`a limit of the gateway that your role does not show`} />}
                    <span className={styles.unit}>
                      <Told>{room.metric.replaceAll("_", " ")}</Told>
                      {room.window ? ` / ${room.window}` : ""}
                    </span>
                  </td>
                  <td data-number="true">
                    <Left room={room} />
                  </td>
                  <td data-number="true">{room.need === null ? <Unknown why={t`the price is not known`} /> : amount(room, room.need)}</td>
                  <td>{room.admits === null ? <Unknown why={t`the keeper is away`} /> : <Mark tone={room.admits ? "ok" : "bad"}>{room.admits ? t`Yes` : t`Refuses`}</Mark>}</td>
                </tr>
              ))}
            </tbody>
          </table>
        ) : (
          <p className={styles.quiet}>
            <Trans>No limit applies.</Trans>
          </p>
        )}
      </div>
    </li>
  );
}

function Left({ room }: { room: Room }) {
  if (room.at_most === null || room.used === null || room.reserved === null) return <Unknown why={t`not known to you or to the keeper now`} />;
  const left = Math.max(0, room.at_most - room.used - room.reserved);
  return <span title={t`${amount(room, room.used)} used, ${amount(room, room.reserved)} reserved, of ${amount(room, room.at_most)}`}>{amount(room, left)}</span>;
}

const amount = (room: Room, n: number): string => (room.metric === "cost_usd" ? `$${n.toLocaleString("en-US", { maximumFractionDigits: 6 })}` : count(n));

function Verdict({ good, words }: { good: boolean; words: string }) {
  return (
    <span>
      <Mark tone={good ? "ok" : "bad"}>{good ? t`Yes` : t`No`}</Mark> <Told>{words}</Told>
    </span>
  );
}

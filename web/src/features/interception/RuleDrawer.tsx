/** One rule: what it catches, how it stands in the kernel, and what became of its last connections. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import { useMay } from "@/api/session";
import { Deeds } from "@/features/publish/Deeds";
import { draftRemoval } from "@/features/publish/queries";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Count, Unknown } from "@/ui/Figure";
import { exact } from "@/units/count";
import { plain, sentence } from "@/units/words";
import styles from "./interception.module.css";
import { endedFlowsQuery, interceptionQuery, removeRule, rulesQuery, type Rule, type RuleState } from "./queries";
import { RuleEditForm } from "./RuleForm";
import { ADDRESSES, callerLine, CREDENTIALS, MODES, ON_FAILURE, REFUSED, sourcesOf, StateMark, TLS, UNMATCHED, wordOf } from "./words";

export function RuleDrawer() {
  const { name } = useParams({ from: "/frame/interception/rules/$name" });
  const navigate = useNavigate();
  const rules = useQuery(rulesQuery);
  const standing = useQuery(interceptionQuery);
  const close = useCallback(() => void navigate({ to: "/interception", search: (old) => old }), [navigate]);
  const rule = rules.data?.find((each) => each.name === name);
  return (
    <Drawer title={name} label={t`Rule`} close={close}>
      {rule ? (
        <Details rule={rule} state={standing.data?.rules.find((each) => each.rule === name)} unasked={standing.data ? undefined : (standing.error?.message ?? t`loading`)} />
      ) : rules.data ? (
        <p>
          <Trans>There is no such rule: it was renamed or removed.</Trans>
        </p>
      ) : rules.error ? (
        <Problem error={rules.error} again={() => void rules.refetch()} />
      ) : (
        <Skeleton height={320} />
      )}
    </Drawer>
  );
}

function Details({ rule, state, unasked }: { rule: Rule; state: RuleState | undefined; unasked: string | undefined }) {
  const may = useMay()("configuration:write");
  const why = unasked ?? t`counted by the agent, which is away`;
  const { hosts, cidrs, ports } = rule.destinations;
  const governs = rule.mode === "govern";
  return (
    <>
      {may ? (
        <Deeds
          kind="interception-rule"
          name={rule.name}
          may
          edit={(close) => <RuleEditForm rule={rule} close={close} />}
          remove={(close) => <RemoveRule rule={rule} open={state?.open} close={close} />}
        />
      ) : null}
      <div className={styles.state}>
        {unasked ? <Unknown why={unasked} /> : <StateMark state={state} />}
        {state?.reason ? <span>{sentence(plain(state.reason))}.</span> : null}
      </div>
      <Part title={t`In the kernel`}>
        <Facts
          facts={[
            [t`Captured`, <Count key="c" n={state?.captured} unit={t`connections`} why={why} />],
            [t`Passed untouched`, <Count key="p" n={state?.passed} unit={t`connections`} why={why} />],
            [t`Denied`, <Count key="d" n={state?.denied} unit={t`connections`} why={why} />],
            [t`Went by while nothing was captured`, <Count key="b" n={state?.bypassed} unit={t`connections`} why={why} />],
            [t`Of this host, by nobody knows which process`, <Count key="u" n={state?.unattributed} unit={t`connections`} why={why} />],
            [t`Open now`, <Count key="o" n={state?.open} unit={t`connections`} why={why} />],
            ...(governs ? ([[t`Last canary`, <Ago key="l" at={state?.last_canary} why={unasked ?? t`none has come through yet`} />]] as const) : []),
            [t`Addresses`, state?.destinations?.length ? <code key="a">{state.destinations.slice(0, 12).join(" ")}{state.destinations.length > 12 ? t` and ${exact(state.destinations.length - 12)} more` : ""}</code> : <Unknown key="a" why={state?.destinations ? t`its hosts have no address at present` : why} />],
          ]}
        />
        <p className={styles.quiet}>
          <Trans>Counted since the agent started.</Trans>
        </p>
      </Part>
      <Part title={t`What it catches`}>
        <Facts
          facts={[
            [t`Connections to`, <code key="h">{[...hosts, ...cidrs].join(", ")}</code>],
            [t`Ports`, <code key="p">{ports.join(", ")}</code>],
            [t`Of`, sourcesOf(rule)],
          ]}
        />
      </Part>
      <Part title={t`What becomes of it`}>
        <Facts
          facts={[
            [t`Mode`, wordOf(MODES, rule.mode)],
            [t`While no gateway answers`, wordOf(ON_FAILURE, rule.on_failure)],
            ...(governs
              ? ([
                  [t`TLS`, wordOf(TLS, rule.tls)],
                  ...(rule.tls === "terminate" ? ([[t`A client that refuses our certificate`, wordOf(REFUSED, rule.refused_certificate)]] as const) : []),
                  [t`What no route claims`, wordOf(UNMATCHED, rule.unmatched)],
                  [t`Credential that goes upstream`, wordOf(CREDENTIALS, rule.credential)],
                  [t`Address that the upstream sees`, wordOf(ADDRESSES, rule.source_address)],
                  [t`Charged without a key`, rule.app ? <Link key="a" to="/apps/$name" params={{ name: rule.app }}>{rule.app}</Link> : <Unknown key="a" why={t`callers must show a key of ours`} />],
                ] as const)
              : []),
          ]}
        />
        {rule.callers.length > 0 ? (
          <>
            <p className={styles.quiet}>
              <Trans>Only these need no key of ours:</Trans>
            </p>
            <ul className={styles.callers}>
              {rule.callers.map((caller) => (
                <li key={callerLine(caller)}>
                  <code>{callerLine(caller)}</code>
                </li>
              ))}
            </ul>
          </>
        ) : null}
      </Part>
      <LastConnections rule={rule.name} />
    </>
  );
}

function RemoveRule({ rule, open, close }: { rule: Rule; open: number | null | undefined; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <Confirm
      title={t`Remove ${rule.name}?`}
      consequence={
        open ? (
          <Trans>New connections go to their destinations directly, past the gateway. The {exact(open)} that are open end in their own time.</Trans>
        ) : (
          <Trans>From then on these connections go to their destinations directly, past the gateway.</Trans>
        )
      }
      deed={t`Remove ${rule.name}`}
      draft={() => draftRemoval("interception-rule", rule.name)}
      act={async () => {
        await removeRule(rule.id);
        await navigate({ to: "/interception", search: (old) => old }); // first: its drawer would ask for what is gone
        await Promise.all([queries.invalidateQueries({ queryKey: rulesQuery.queryKey }), queries.invalidateQueries({ queryKey: interceptionQuery.queryKey })]);
      }}
      close={close}
    />
  );
}

const LAST = 5;

function LastConnections({ rule }: { rule: string }) {
  const asked = useQuery(endedFlowsQuery(rule, LAST));
  const flows = asked.data;
  return (
    <Part title={t`Its last connections`}>
      {flows?.items.length ? (
        <ul className={styles.callers}>
          {flows.items.map((flow) => (
            <li key={flow.started_at + flow.client}>
              <code>{flow.process ?? flow.client}</code> → <code>{flow.server_name ?? flow.destination}</code>, {flow.outcome} <Ago at={flow.started_at} />
            </li>
          ))}
        </ul>
      ) : (
        <p className={styles.quiet}>{!flows ? <Unknown why={asked.error?.message ?? t`loading`} /> : flows.reason ? `${sentence(plain(flows.reason))}.` : t`None has ended since the agent started.`}</p>
      )}
      <Link to="/interception/connections" search={(old) => ({ ...old, rule })}>
        <Trans>All of them</Trans>
      </Link>
      {" · "}
      <Link to="/flows">
        <Trans>The picture of flows</Trans>
      </Link>
    </Part>
  );
}

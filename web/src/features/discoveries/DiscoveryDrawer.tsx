/** One finding: who, to whom, on what evidence, what stands in the kernel, and what to do about it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { Discovery } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Until, Unknown, When } from "@/ui/Figure";
import { bytes, exact } from "@/units/count";
import { sentence } from "@/units/words";
import { DecisionForm } from "./DecisionForm";
import styles from "./discoveries.module.css";
import { discoveryQuery } from "./queries";
import { CoverageMark, evidenceOf, StateMark, whoOf } from "./words";

export function DiscoveryDrawer() {
  const { id } = useParams({ from: "/frame/discoveries/$id" });
  const navigate = useNavigate();
  const asked = useQuery(discoveryQuery(Number(id)));
  const close = useCallback(() => void navigate({ to: "/discoveries", search: (old) => old }), [navigate]);
  const found = asked.data;
  return (
    <Drawer title={found ? `${whoOf(found)} → ${found.host}` : t`Finding`} label={t`Finding`} close={close}>
      {asked.error && !found ? <Problem error={asked.error} again={() => void asked.refetch()} /> : null}
      {found ? <Details key={found.id} found={found} /> : asked.error ? null : <Skeleton height={420} />}
    </Drawer>
  );
}

function Details({ found }: { found: Discovery }) {
  const evidence = evidenceOf(found.evidence);
  return (
    <>
      <Standing found={found} />
      <Part title={t`Decide`}>
        <DecisionForm found={found} />
      </Part>
      <Part title={t`Who`}>
        <Facts
          facts={
            found.client
              ? [[t`Client`, <code key="c">{found.client}</code>], [t`How`, t`its traffic is forwarded by this host`]]
              : [
                  [t`Process`, found.process ?? <Unknown key="p" why={t`it was gone before it could be told`} />],
                  [t`Executable`, found.executable ? <code key="e">{found.executable}</code> : <Unknown key="e" why={t`it was gone before it could be told`} />],
                  [t`User`, found.user ?? <Unknown key="u" why={t`could not be told`} />],
                  [t`Container`, found.container ?? t`none`],
                  ...(found.unit ? ([[t`Unit`, <code key="n">{found.unit}</code>]] as const) : []),
                  [t`Cgroup`, found.cgroup ? <code key="g">{found.cgroup}</code> : <Unknown key="g" why={t`could not be told`} />],
                ]
          }
        />
      </Part>
      <Part title={t`Where to`}>
        <Facts
          facts={[
            [t`Provider`, found.provider],
            [t`Host`, <code key="h">{found.host}</code>],
            [t`Last address`, found.address ? <code key="a">{found.port ? t`${found.address} port ${found.port}` : found.address}</code> : <Unknown key="a" why={t`not told`} />],
            [t`Evidence`, <span key="v" title={evidence.meaning}>{evidence.word}</span>],
          ]}
        />
        <p className={styles.quiet}>{evidence.meaning}.</p>
      </Part>
      {found.coverage || found.calls > 0 ? <WithinTls found={found} /> : null}
      <Part title={t`How much`}>
        <Facts
          facts={[
            [t`First seen`, <span key="f"><When at={found.first_seen} /> (<Ago at={found.first_seen} />)</span>],
            [t`Last seen`, <span key="l"><When at={found.last_seen} /> (<Ago at={found.last_seen} />)</span>],
            [t`Connections`, exact(found.connections)],
            [t`Bytes, both ways`, <span key="b" title={t`${exact(found.bytes)} bytes`}>{bytes(found.bytes)}</span>],
            [t`Node`, <code key="n">{found.node}</code>],
          ]}
        />
      </Part>
    </>
  );
}

/** What was read within TLS of processes that the setting `tls_watched` names. */
function WithinTls({ found }: { found: Discovery }) {
  return (
    <Part title={t`Inside TLS`}>
      <Facts
        facts={[
          [t`Read`, found.coverage ? <CoverageMark key="c" state={found.coverage} reason={found.coverage_reason} /> : <Unknown key="c" why={t`none of its processes has run lately`} />],
          [t`Calls`, exact(found.calls)],
          [t`Tokens in`, exact(found.input_tokens)],
          [t`Tokens out`, exact(found.output_tokens)],
          [t`Models`, found.models.length > 0 ? <code key="m">{found.models.join(", ")}</code> : <Unknown key="m" why={t`no call was read`} />],
        ]}
      />
      {found.coverage_reason ? <p className={styles.quiet}>{sentence(found.coverage_reason)}.</p> : null}
    </Part>
  );
}

/** What holds now, what made it hold, and until when. */
function Standing({ found }: { found: Discovery }) {
  const made = found.denial ? ([t`Denial`, found.denial] as const) : found.rule ? ([t`Interception rule`, found.rule] as const) : undefined;
  return (
    <div className={styles.standing}>
      <div className={styles.state}>
        <StateMark found={found} />
        {found.state_until ? (
          <span>
            <Trans>
              for another <Until at={found.state_until} />
            </Trans>
          </span>
        ) : null}
        {found.decided_by ? (
          <span>
            {found.decided_by === "system" ? (
              <Trans>
                its time was over, <Ago at={found.decided_at} />
              </Trans>
            ) : (
              <Trans>
                by {found.decided_by}, <Ago at={found.decided_at} />
              </Trans>
            )}
          </span>
        ) : null}
      </div>
      {made ? (
        <Facts
          facts={[
            [made[0], <code key="m">{made[1]}</code>],
            [t`In the kernel`, found.in_force === null ? <Unknown key="f" why={found.reason ?? t`this node has not said yet`} /> : found.in_force ? t`in force` : (found.reason ?? t`not in force`)],
            ...(found.denied !== null && found.state === "deny" ? ([[t`Connections refused`, exact(found.denied)]] as const) : []),
          ]}
        />
      ) : null}
    </div>
  );
}

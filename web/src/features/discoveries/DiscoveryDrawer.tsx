/** One finding: who, to whom, on what evidence, what stands in the kernel, and what to do about it. */
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
    <Drawer title={found ? `${whoOf(found)} → ${found.host}` : "Finding"} label="Finding" close={close}>
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
      <Part title="Decide">
        <DecisionForm found={found} />
      </Part>
      <Part title="Who">
        <Facts
          facts={
            found.client
              ? [["Client", <code key="c">{found.client}</code>], ["How", "its traffic is forwarded by this host"]]
              : [
                  ["Process", found.process ?? <Unknown key="p" why="it was gone before it could be told" />],
                  ["Executable", found.executable ? <code key="e">{found.executable}</code> : <Unknown key="e" why="it was gone before it could be told" />],
                  ["User", found.user ?? <Unknown key="u" why="could not be told" />],
                  ["Container", found.container ?? "none"],
                  ...(found.unit ? ([["Unit", <code key="n">{found.unit}</code>]] as const) : []),
                  ["Cgroup", found.cgroup ? <code key="g">{found.cgroup}</code> : <Unknown key="g" why="could not be told" />],
                ]
          }
        />
      </Part>
      <Part title="Where to">
        <Facts
          facts={[
            ["Provider", found.provider],
            ["Host", <code key="h">{found.host}</code>],
            ["Last address", found.address ? <code key="a">{found.port ? `${found.address} port ${found.port}` : found.address}</code> : <Unknown key="a" why="not told" />],
            ["Evidence", <span key="v" title={evidence.meaning}>{evidence.word}</span>],
          ]}
        />
        <p className={styles.quiet}>{evidence.meaning}.</p>
      </Part>
      {found.coverage || found.calls > 0 ? <WithinTls found={found} /> : null}
      <Part title="How much">
        <Facts
          facts={[
            ["First seen", <span key="f"><When at={found.first_seen} /> (<Ago at={found.first_seen} />)</span>],
            ["Last seen", <span key="l"><When at={found.last_seen} /> (<Ago at={found.last_seen} />)</span>],
            ["Connections", exact(found.connections)],
            ["Bytes, both ways", <span key="b" title={`${exact(found.bytes)} bytes`}>{bytes(found.bytes)}</span>],
            ["Node", <code key="n">{found.node}</code>],
          ]}
        />
      </Part>
    </>
  );
}

/** What was read within TLS of processes that the setting `tls_watched` names. */
function WithinTls({ found }: { found: Discovery }) {
  return (
    <Part title="Inside TLS">
      <Facts
        facts={[
          ["Read", found.coverage ? <CoverageMark key="c" state={found.coverage} reason={found.coverage_reason} /> : <Unknown key="c" why="none of its processes has run lately" />],
          ["Calls", exact(found.calls)],
          ["Tokens in", exact(found.input_tokens)],
          ["Tokens out", exact(found.output_tokens)],
          ["Models", found.models.length > 0 ? <code key="m">{found.models.join(", ")}</code> : <Unknown key="m" why="no call was read" />],
        ]}
      />
      {found.coverage_reason ? <p className={styles.quiet}>{sentence(found.coverage_reason)}.</p> : null}
    </Part>
  );
}

/** What holds now, what made it hold, and until when. */
function Standing({ found }: { found: Discovery }) {
  const made = found.denial ? (["Denial", found.denial] as const) : found.rule ? (["Interception rule", found.rule] as const) : undefined;
  return (
    <div className={styles.standing}>
      <div className={styles.state}>
        <StateMark found={found} />
        {found.state_until ? (
          <span>
            for another <Until at={found.state_until} />
          </span>
        ) : null}
        {found.decided_by ? (
          <span>
            {found.decided_by === "system" ? "its time was over" : `by ${found.decided_by}`}, <Ago at={found.decided_at} />
          </span>
        ) : null}
      </div>
      {made ? (
        <Facts
          facts={[
            [made[0], <code key="m">{made[1]}</code>],
            ["In the kernel", found.in_force === null ? <Unknown key="f" why={found.reason ?? "this node has not said yet"} /> : found.in_force ? "in force" : (found.reason ?? "not in force")],
            ...(found.denied !== null && found.state === "deny" ? ([["Connections refused", exact(found.denied)]] as const) : []),
          ]}
        />
      ) : null}
    </div>
  );
}

/** The fields of a rule: which connections, of whom, and what becomes of them. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Select, Switch, Textarea, TextInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { appsQuery } from "@/features/apps/queries";
import { Line } from "@/ui/FormDialog";
import { More } from "@/ui/More";
import { useWrong } from "@/ui/wrong";
import styles from "./interception.module.css";
import type { Rule } from "./queries";
import { ADDRESSES, CREDENTIALS, MODES, ON_FAILURE, REFUSED, TLS, UNMATCHED } from "./words";
import { anyone, type RuleWritten } from "./written";

const GOVERNED = ["tls", "refused_certificate", "unmatched", "credential", "source_address", "callers"];

export function RuleFields({ written, change }: { written: RuleWritten; change: (part: Partial<RuleWritten>) => void }) {
  const apps = useQuery(appsQuery).data?.map((app) => app.name) ?? [];
  const wrong = useWrong();
  const governs = written.mode === "govern";
  return (
    <>
      <TextInput label={t`Name`} required value={written.name} error={wrong("name")} onChange={(event) => change({ name: event.currentTarget.value })} data-autofocus />
      <Textarea label={t`Connections to these hosts`} description={t`Their addresses are looked up again and again`} placeholder="api.openai.com" rows={2} value={written.hosts} error={wrong("destinations.hosts")} onChange={(event) => change({ hosts: event.currentTarget.value })} />
      <Line>
        <TextInput label={t`And these networks`} placeholder="192.0.2.0/24" value={written.cidrs} error={wrong("destinations.cidrs")} onChange={(event) => change({ cidrs: event.currentTarget.value })} />
        <TextInput label={t`Ports`} value={written.ports} error={wrong("destinations.ports")} onChange={(event) => change({ ports: event.currentTarget.value })} />
      </Line>
      <Line>
        <Select label={t`Mode`} data={[...MODES]} value={written.mode} allowDeselect={false} error={wrong("mode")} onChange={(chosen) => change({ mode: chosen as Rule["mode"] })} />
        <Select label={t`While no gateway answers`} data={[...ON_FAILURE]} value={written.on_failure} allowDeselect={false} onChange={(chosen) => change({ on_failure: chosen as Rule["on_failure"] })} />
      </Line>
      {governs ? (
        <Select
          label={t`Charged where a caller shows no key of ours`}
          placeholder={t`Nobody: callers must show one`}
          data={apps}
          value={written.app}
          clearable
          clearButtonProps={{ "aria-label": t`Charge nobody` }}
          onChange={(chosen) => change({ app: chosen })}
          error={wrong("app")}
        />
      ) : null}
      <More title={<Trans>Of whom: only some connections</Trans>} fields={["sources"]} open={!anyone(written)}>
        <p className={styles.quiet}>
          <Trans>A connection that fits any of these. Nothing named: everyone's.</Trans>
        </p>
        <Switch label={t`Of this host itself`} checked={written.local} onChange={(event) => change({ local: event.currentTarget.checked })} />
        <Line>
          <TextInput label={t`From networks`} placeholder="10.9.0.0/16" value={written.sourceCidrs} error={wrong("sources.cidrs")} onChange={(event) => change({ sourceCidrs: event.currentTarget.value })} />
          <TextInput label={t`Of users`} placeholder="www-data" value={written.users} error={wrong("sources.users")} onChange={(event) => change({ users: event.currentTarget.value })} />
        </Line>
        <Textarea label={t`In cgroups, one a line`} placeholder="system.slice/indexer.service" rows={2} value={written.cgroups} error={wrong("sources.cgroups")} onChange={(event) => change({ cgroups: event.currentTarget.value })} />
      </More>
      {governs ? (
        <More title={<Trans>TLS, what no route claims, credentials, callers</Trans>} fields={GOVERNED} open={written.tls !== "passthrough" || written.callers !== ""}>
          <Select label={t`TLS`} data={[...TLS]} value={written.tls} allowDeselect={false} onChange={(chosen) => change({ tls: chosen as Rule["tls"] })} />
          {written.tls === "terminate" ? (
            <Select label={t`A client that refuses our certificate`} data={[...REFUSED]} value={written.refused_certificate} allowDeselect={false} onChange={(chosen) => change({ refused_certificate: chosen as Rule["refused_certificate"] })} />
          ) : null}
          <Select label={t`What no route claims`} data={[...UNMATCHED]} value={written.unmatched} allowDeselect={false} onChange={(chosen) => change({ unmatched: chosen as Rule["unmatched"] })} />
          <Line>
            <Select label={t`Credential that goes upstream`} data={[...CREDENTIALS]} value={written.credential} allowDeselect={false} onChange={(chosen) => change({ credential: chosen as Rule["credential"] })} />
            <Select label={t`Address that the upstream sees`} data={[...ADDRESSES]} value={written.source_address} allowDeselect={false} onChange={(chosen) => change({ source_address: chosen as Rule["source_address"] })} />
          </Line>
          <Textarea
            label={t`Callers that need no key, one a line`}
            description={t`The kernel's word for who they are; with app= who is charged. None: whoever the rule catches.`}
            placeholder={"unit=indexer.service app=indexer\nexecutable=/usr/bin/batch user=batch"}
            rows={3}
            value={written.callers}
            onChange={(event) => change({ callers: event.currentTarget.value })}
            error={wrong("callers")}
          />
        </More>
      ) : null}
    </>
  );
}

/** A rule of interception, new or changed: which connections, of whom, and what becomes of them. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Select, Switch, Textarea, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { appsQuery } from "@/features/apps/queries";
import { FormDialog, Line } from "@/ui/FormDialog";
import styles from "./interception.module.css";
import { interceptionQuery, rulesQuery, saveRule, type Rule, type RuleWanted } from "./queries";
import { ADDRESSES, callerLine, CREDENTIALS, MODES, ON_FAILURE, REFUSED, TLS, UNMATCHED } from "./words";

/** As people write lists: commas, spaces or lines between. */
const listed = (text: string): string[] => text.split(/[\s,]+/).filter(Boolean);

interface Fields extends Pick<Rule, "name" | "mode" | "on_failure" | "tls" | "refused_certificate" | "source_address" | "unmatched" | "credential"> {
  hosts: string;
  cidrs: string;
  ports: string;
  sourceCidrs: string;
  users: string;
  cgroups: string;
  local: boolean;
  app: string | null;
  callers: string;
}

const NEW: Fields = {
  name: "",
  hosts: "",
  cidrs: "",
  ports: "80, 443",
  sourceCidrs: "",
  users: "",
  cgroups: "",
  local: false,
  mode: "govern",
  on_failure: "open",
  tls: "passthrough",
  refused_certificate: "fail",
  source_address: "gateway",
  unmatched: "splice",
  credential: "provider",
  app: null,
  callers: "",
};

function fieldsOf(rule: Rule): Fields {
  const { name, mode, on_failure, tls, refused_certificate, source_address, unmatched, credential, app, sources, destinations } = rule;
  return {
    ...{ name, mode, on_failure, tls, refused_certificate, source_address, unmatched, credential, app },
    hosts: destinations.hosts.join("\n"),
    cidrs: destinations.cidrs.join(", "),
    ports: destinations.ports.join(", "),
    sourceCidrs: sources?.cidrs.join(", ") ?? "",
    users: sources?.users.join(", ") ?? "",
    cgroups: sources?.cgroups.join("\n") ?? "",
    local: sources?.local ?? false,
    callers: rule.callers.map(callerLine).join("\n"),
  };
}

function wanted(fields: Fields): RuleWanted {
  const { name, mode, on_failure, tls, refused_certificate, source_address, unmatched, credential, app, local } = fields;
  const sources = { cidrs: listed(fields.sourceCidrs), users: listed(fields.users), cgroups: fields.cgroups.split("\n").map((line) => line.trim()).filter(Boolean), local };
  const anyone = !local && sources.cidrs.length + sources.users.length + sources.cgroups.length === 0;
  return {
    ...{ mode, on_failure, tls, refused_certificate, source_address, unmatched, credential, app },
    name: name.trim(),
    destinations: { hosts: listed(fields.hosts), cidrs: listed(fields.cidrs), ports: listed(fields.ports).map(Number) },
    sources: anyone ? null : sources,
    callers: fields.callers.split("\n").filter((line) => line.trim() !== "").map(callerOf),
  };
}

/** `unit=indexer.service app=indexer`; what it cannot be is told by the server, by name. */
function callerOf(line: string): object {
  return Object.fromEntries(
    line
      .trim()
      .split(/\s+/)
      .map((part) => {
        const at = part.indexOf("=");
        return at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
      }),
  );
}

export function RuleForm({ before, close }: { before: Rule | null; close: () => void }) {
  const [fields, setFields] = useState<Fields>(before ? fieldsOf(before) : NEW);
  const apps = useQuery(appsQuery).data?.map((app) => app.name) ?? [];
  const queries = useQueryClient();
  const navigate = useNavigate();
  const change = (part: Partial<Fields>): void => setFields({ ...fields, ...part });
  const name = fields.name.trim();
  const destinations = listed(fields.hosts).length + listed(fields.cidrs).length;
  const governs = fields.mode === "govern";

  return (
    <FormDialog
      title={before ? t`Change ${before.name}` : t`Add a rule`}
      deed={before ? t`Save ${before.name}` : name ? t`Add ${name}` : t`Add the rule`}
      complete={name !== "" && destinations > 0}
      act={() => saveRule(wanted(fields), before)}
      done={async (rule) => {
        await Promise.all([queries.invalidateQueries({ queryKey: rulesQuery.queryKey }), queries.invalidateQueries({ queryKey: interceptionQuery.queryKey }), queries.invalidateQueries({ queryKey: ["authority"] })]);
        close();
        await navigate({ to: "/interception/rules/$name", params: { name: rule.name }, search: (old) => old });
      }}
      close={close}
    >
      <TextInput label={t`Name`} required value={fields.name} onChange={(event) => change({ name: event.currentTarget.value })} data-autofocus />
      <Textarea label={t`Connections to these hosts`} description={t`Their addresses are looked up again and again`} placeholder="api.openai.com" rows={2} value={fields.hosts} onChange={(event) => change({ hosts: event.currentTarget.value })} />
      <Line>
        <TextInput label={t`And these networks`} placeholder="192.0.2.0/24" value={fields.cidrs} onChange={(event) => change({ cidrs: event.currentTarget.value })} />
        <TextInput label={t`Ports`} value={fields.ports} onChange={(event) => change({ ports: event.currentTarget.value })} />
      </Line>
      <Line>
        <Select label={t`Mode`} data={[...MODES]} value={fields.mode} allowDeselect={false} onChange={(chosen) => change({ mode: chosen as Rule["mode"] })} />
        <Select label={t`While no gateway answers`} data={[...ON_FAILURE]} value={fields.on_failure} allowDeselect={false} onChange={(chosen) => change({ on_failure: chosen as Rule["on_failure"] })} />
      </Line>
      {governs ? (
        <Select
          label={t`Charged where a caller shows no key of ours`}
          placeholder={t`Nobody: callers must show one`}
          data={apps}
          value={fields.app}
          clearable
          clearButtonProps={{ "aria-label": t`Charge nobody` }}
          onChange={(chosen) => change({ app: chosen })}
        />
      ) : null}
      <details className={styles.more} open={before !== null && before.sources !== null}>
        <summary>
          <Trans>Of whom: only some connections</Trans>
        </summary>
        <div className={styles.fields}>
          <p className={styles.quiet}>
            <Trans>A connection that fits any of these. Nothing named: everyone's.</Trans>
          </p>
          <Switch label={t`Of this host itself`} checked={fields.local} onChange={(event) => change({ local: event.currentTarget.checked })} />
          <Line>
            <TextInput label={t`From networks`} placeholder="10.9.0.0/16" value={fields.sourceCidrs} onChange={(event) => change({ sourceCidrs: event.currentTarget.value })} />
            <TextInput label={t`Of users`} placeholder="www-data" value={fields.users} onChange={(event) => change({ users: event.currentTarget.value })} />
          </Line>
          <Textarea label={t`In cgroups, one a line`} placeholder="system.slice/indexer.service" rows={2} value={fields.cgroups} onChange={(event) => change({ cgroups: event.currentTarget.value })} />
        </div>
      </details>
      {governs ? (
        <details className={styles.more} open={before !== null && (before.tls !== "passthrough" || before.callers.length > 0)}>
          <summary>
            <Trans>TLS, what no route claims, credentials, callers</Trans>
          </summary>
          <div className={styles.fields}>
            <Select label={t`TLS`} data={[...TLS]} value={fields.tls} allowDeselect={false} onChange={(chosen) => change({ tls: chosen as Rule["tls"] })} />
            {fields.tls === "terminate" ? (
              <Select label={t`A client that refuses our certificate`} data={[...REFUSED]} value={fields.refused_certificate} allowDeselect={false} onChange={(chosen) => change({ refused_certificate: chosen as Rule["refused_certificate"] })} />
            ) : null}
            <Select label={t`What no route claims`} data={[...UNMATCHED]} value={fields.unmatched} allowDeselect={false} onChange={(chosen) => change({ unmatched: chosen as Rule["unmatched"] })} />
            <Line>
              <Select label={t`Credential that goes upstream`} data={[...CREDENTIALS]} value={fields.credential} allowDeselect={false} onChange={(chosen) => change({ credential: chosen as Rule["credential"] })} />
              <Select label={t`Address that the upstream sees`} data={[...ADDRESSES]} value={fields.source_address} allowDeselect={false} onChange={(chosen) => change({ source_address: chosen as Rule["source_address"] })} />
            </Line>
            <Textarea
              label={t`Callers that need no key, one a line`}
              description={t`The kernel's word for who they are; with app= who is charged. None: whoever the rule catches.`}
              placeholder={"unit=indexer.service app=indexer\nexecutable=/usr/bin/batch user=batch"}
              rows={3}
              value={fields.callers}
              onChange={(event) => change({ callers: event.currentTarget.value })}
            />
          </div>
        </details>
      ) : null}
    </FormDialog>
  );
}

/** A new route, or changes of one: its targets, which of them is taken, how it waits and retries, what it claims. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { NumberInput, SegmentedControl, Select, Switch, TagsInput, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Route, Strategy } from "@/api/model";
import { EditForm } from "@/features/publish/EditForm";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog, Line } from "@/ui/FormDialog";
import { More } from "@/ui/More";
import { useWrong } from "@/ui/wrong";
import { sentence } from "@/units/words";
import { HeaderRuleFields } from "./HeaderRuleFields";
import { changeRoute, makeRoute, routeQuery, routesQuery } from "./queries";
import styles from "./routes.module.css";
import { STRATEGIES } from "./target";
import { TargetFields } from "./TargetFields";
import { isComplete, NEW, ROUTE, wantedOf, type RouteWritten } from "./written";

const BEHAVIOUR = ["timeout", "retries", "auth", "max_output_tokens", "prefer", "strip_prefix", "preserve_host", "read_to_end"];
const CHOICES = Object.entries(STRATEGIES).map(([value, how]) => ({ value, label: sentence(how) }));
const CALLERS = [
  { value: "key", label: t`An app's key` },
  { value: "source", label: t`Nothing: their network says whose they are` },
  { value: "none", label: t`Nothing: anybody may call` },
] as const;

export function RouteForm({ close }: { close: () => void }) {
  const [written, setWritten] = useState<RouteWritten>(NEW);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const name = written.name.trim();
  const change = (part: Partial<RouteWritten>): void => setWritten({ ...written, ...part });
  return (
    <FormDialog
      title={t`Add a route`}
      deed={name ? t`Add ${name}` : t`Add the route`}
      wide
      complete={isComplete(written)}
      act={() => makeRoute(wantedOf(written))}
      draft={() => draftEntry("route", name, { ...wantedOf(written) }, "none")}
      done={async (route) => {
        await queries.invalidateQueries({ queryKey: routesQuery.queryKey });
        close();
        await navigate({ to: "/routes/$name", params: { name: route.name } });
      }}
      close={close}
    >
      <SegmentedControl
        aria-label={t`What it serves`}
        data={[
          { value: "model", label: t`Calls that name a model` },
          { value: "http", label: t`Any HTTP API` },
        ]}
        value={written.http ? "http" : "model"}
        onChange={(chosen) => change({ http: chosen === "http", targets: NEW.targets })}
      />
      <RouteName written={written} change={change} />
      <RouteFields written={written} change={change} />
    </FormDialog>
  );
}

export function RouteEditForm({ route, close }: { route: Route; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <EditForm
      shape={ROUTE}
      thing={route}
      save={(version, patch) => changeRoute(route.name, version, patch)}
      reread={() => queries.fetchQuery({ ...routeQuery(route.name), staleTime: 0 })}
      shown={[routesQuery.queryKey]}
      done={(saved) => navigate({ to: "/routes/$name", params: { name: saved.name } })}
      complete={isComplete}
      renaming={route.match ? <Trans>What the ledger has stays under the old one.</Trans> : <Trans>Calls that ask for “{route.name}” get 404 within a second; what the ledger has stays under that name.</Trans>}
      wide
      close={close}
    >
      {(written, change) => (
        <>
          <RouteName written={written} change={change} />
          <RouteFields written={written} change={change} />
        </>
      )}
    </EditForm>
  );
}

interface FieldsProps {
  written: RouteWritten;
  change: (part: Partial<RouteWritten>) => void;
}

function RouteName({ written, change }: FieldsProps) {
  const wrong = useWrong();
  return (
    <TextInput
      label={t`Name`}
      description={written.http ? t`What apps, limits and the ledger call it` : t`What callers write as “model”; each target's model is the provider's own name for it`}
      required
      value={written.name}
      onChange={(event) => change({ name: event.currentTarget.value })}
      error={wrong("name")}
      data-autofocus
    />
  );
}

function RouteFields({ written, change }: FieldsProps) {
  const wrong = useWrong();
  const wait = (which: keyof RouteWritten["timeout"], label: string) => (
    <NumberInput label={label} suffix=" s" min={0.001} max={86_400} decimalScale={3} hideControls required value={written.timeout[which]} onChange={(value) => change({ timeout: { ...written.timeout, [which]: Number(value) } })} error={wrong(`timeout.${which}`)} />
  );
  return (
    <>
      {written.http ? (
        <Line>
          <TextInput label={t`Claims the host`} placeholder="crm.internal" value={written.host} onChange={(event) => change({ host: event.currentTarget.value })} error={wrong("match.host")} />
          <TextInput label={t`And paths below`} placeholder="/v2/" value={written.path} onChange={(event) => change({ path: event.currentTarget.value })} error={wrong("match.path")} />
        </Line>
      ) : null}
      <Select label={t`Targets are taken`} data={CHOICES} value={written.strategy} allowDeselect={false} onChange={(chosen) => change({ strategy: chosen as Strategy })} />
      <TargetFields written={written} set={(targets) => change({ targets })} />
      <More title={<Trans>How it waits, retries, and what else it does</Trans>} fields={BEHAVIOUR}>
        <Line>
          {wait("connect", t`To connect`)}
          {wait("first_byte", t`First byte`)}
          {wait("idle", t`Between bytes`)}
          {wait("total", t`In all`)}
        </Line>
        <Line>
          <NumberInput label={t`Retries`} description={t`Attempts after the first`} min={0} max={100} allowDecimal={false} hideControls value={written.retries} onChange={(value) => change({ retries: Number(value) })} />
          {written.http ? (
            <Select label={t`Callers show`} data={[...CALLERS]} value={written.auth} allowDeselect={false} onChange={(chosen) => change({ auth: chosen as RouteWritten["auth"] })} />
          ) : (
            <NumberInput
              label={t`Reserves`}
              description={t`Output tokens, if unbounded`}
              min={1}
              max={100_000_000}
              allowDecimal={false}
              thousandSeparator=","
              hideControls
              value={written.maxOutputTokens}
              onChange={(value) => change({ maxOutputTokens: Number(value) })}
            />
          )}
        </Line>
        <TagsInput label={t`Prefers providers with the tags`} description={t`In this order; the others are fallback`} value={[...written.prefer]} onChange={(prefer) => change({ prefer })} error={wrong("prefer")} />
        {written.http ? (
          <>
            <Switch label={t`Send the path upstream without its prefix`} checked={written.stripPrefix} disabled={written.path.trim() === ""} onChange={(event) => change({ stripPrefix: event.currentTarget.checked })} />
            <Switch label={t`Send the caller's Host upstream`} checked={written.preserveHost} onChange={(event) => change({ preserveHost: event.currentTarget.checked })} />
          </>
        ) : null}
        <Switch label={t`When the client leaves, read the answer to its end`} checked={written.readToEnd} onChange={(event) => change({ readToEnd: event.currentTarget.checked })} />
      </More>
      {written.http ? (
        <More title={<Trans>Advanced: header rules</Trans>} fields={["request_headers", "response_headers"]} open={written.requestHeaders.length + written.responseHeaders.length > 0}>
          <HeaderRuleFields
            field="request_headers"
            title={<Trans>Requests, before they go upstream</Trans>}
            named={(number) => t`Request header ${number}`}
            rules={written.requestHeaders}
            set={(requestHeaders) => change({ requestHeaders })}
          />
          <HeaderRuleFields
            field="response_headers"
            title={<Trans>Answers, before they go to the caller</Trans>}
            named={(number) => t`Answer header ${number}`}
            rules={written.responseHeaders}
            set={(responseHeaders) => change({ responseHeaders })}
          />
          <p className={styles.how}>
            <Trans>First what is removed, then what is set in place of what is there, then what is added beside it. Secrets belong into the provider's credentials: everybody who sees routes reads these rules.</Trans>
          </p>
        </More>
      ) : null}
    </>
  );
}

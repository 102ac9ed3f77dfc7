/** A new limit: what is counted, how much of it, in which window, for whom. */
import { t } from "@lingui/core/macro";
import { NumberInput, Select, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Metric, Scope, WindowName } from "@/api/model";
import { appsQuery, keysQuery, teamsQuery } from "@/features/apps/queries";
import { providersQuery } from "@/features/providers/queries";
import { routesQuery } from "@/features/routes/queries";
import { targetName } from "@/features/routes/target";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog, Line } from "@/ui/FormDialog";
import { limitsQuery, makeLimit } from "./queries";

const METRICS: readonly { value: Metric; label: string }[] = [
  { value: "cost_usd", label: t`Cost, USD` },
  { value: "total_tokens", label: t`Tokens` },
  { value: "input_tokens", label: t`Input tokens` },
  { value: "output_tokens", label: t`Output tokens` },
  { value: "requests", label: t`Requests` },
  { value: "concurrent_requests", label: t`Requests at once` },
];

const WINDOWS: readonly { value: WindowName; label: string }[] = [
  { value: "second", label: t`A second` },
  { value: "minute", label: t`A minute` },
  { value: "hour", label: t`An hour` },
  { value: "day", label: t`A day` },
  { value: "week", label: t`A week` },
  { value: "month", label: t`A month` },
  { value: "lifetime", label: t`In all, ever` },
];

type Kind = "everyone" | keyof Scope;

const KINDS: readonly { value: Kind; label: string; which?: string }[] = [
  { value: "everyone", label: t`Everyone` },
  { value: "team", label: t`A team`, which: t`Which team` },
  { value: "app", label: t`An app`, which: t`Which app` },
  { value: "key", label: t`A key`, which: t`Which key` },
  { value: "route", label: t`A route`, which: t`Which route` },
  { value: "provider", label: t`A provider`, which: t`Which provider` },
  { value: "credential", label: t`A credential`, which: t`Which credential` },
  { value: "target", label: t`A target`, which: t`Which target` },
  { value: "model", label: t`A model`, which: t`Which model` },
];

export function LimitForm({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [metric, setMetric] = useState<Metric>("cost_usd");
  const [atMost, setAtMost] = useState<number | string>("");
  const [within, setWithin] = useState<WindowName>("month");
  const [kind, setKind] = useState<Kind>("team");
  const [whom, setWhom] = useState<string | null>(null);
  const names = useNames(kind);
  const queries = useQueryClient();
  const atOnce = metric === "concurrent_requests";

  const wanted = {
    name: name.trim(),
    metric,
    at_most: Number(atMost),
    scope: kind === "everyone" ? {} : { [kind]: whom },
    ...(atOnce ? {} : { window: within }),
  };

  return (
    <FormDialog
      title={t`Add a limit`}
      deed={name.trim() ? t`Add ${name.trim()}` : t`Add the limit`}
      complete={name.trim() !== "" && Number(atMost) > 0 && (kind === "everyone" || whom !== null)}
      act={() => makeLimit(wanted)}
      draft={() => draftEntry("limit", wanted.name, { ...wanted }, "none")}
      done={async () => {
        await queries.invalidateQueries({ queryKey: limitsQuery.queryKey });
        close();
      }}
      close={close}
    >
      <TextInput label={t`Name`} description={t`A refused caller reads it`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Line>
        <Select
          label={t`For`}
          data={[...KINDS]}
          value={kind}
          allowDeselect={false}
          onChange={(chosen) => {
            setKind(chosen as Kind);
            setWhom(null);
          }}
        />
        {kind === "everyone" ? null : <Select label={KINDS.find(({ value }) => value === kind)?.which} data={names} value={whom} onChange={setWhom} searchable required />}
      </Line>
      <Line>
        <NumberInput label={t`At most`} required min={0} allowNegative={false} allowDecimal={metric === "cost_usd"} decimalScale={6} thousandSeparator="," prefix={metric === "cost_usd" ? "$" : ""} value={atMost} onChange={setAtMost} hideControls />
        <Select label={t`Of`} data={[...METRICS]} value={metric} allowDeselect={false} onChange={(chosen) => setMetric(chosen as Metric)} />
        {atOnce ? null : <Select label={t`In`} data={[...WINDOWS]} value={within} allowDeselect={false} onChange={(chosen) => setWithin(chosen as WindowName)} />}
      </Line>
    </FormDialog>
  );
}

/** What a limit of this kind can be for: keys as `app/name`, credentials as `provider/name`, targets as `provider/model`. */
function useNames(kind: Kind): string[] {
  const teams = useQuery({ ...teamsQuery, enabled: kind === "team" });
  const apps = useQuery({ ...appsQuery, enabled: kind === "app" });
  const keys = useQuery({ ...keysQuery, enabled: kind === "key" });
  const routes = useQuery({ ...routesQuery, enabled: kind === "route" || kind === "target" || kind === "model" });
  const providers = useQuery({ ...providersQuery, enabled: kind === "provider" || kind === "credential" });
  const targets = routes.data?.flatMap((route) => route.targets) ?? [];
  switch (kind) {
    case "everyone":
      return [];
    case "team":
      return teams.data?.map((each) => each.name) ?? [];
    case "app":
      return apps.data?.map((each) => each.name) ?? [];
    case "key":
      return keys.data?.map((each) => `${each.app}/${each.name}`) ?? [];
    case "route":
      return routes.data?.map((each) => each.name) ?? [];
    case "provider":
      return providers.data?.map((each) => each.name) ?? [];
    case "credential":
      return providers.data?.flatMap((each) => each.credentials.map((credential) => `${each.name}/${credential.name}`)) ?? [];
    case "target":
      return [...new Set(targets.map(targetName))];
    case "model":
      return [...new Set(targets.flatMap((target) => target.model ?? []))];
  }
}

/** A limit, new or edited: what is counted, how much of it, in which window, for whom. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { NumberInput, Select, Switch, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Limit, Metric, WindowName } from "@/api/model";
import { EditForm } from "@/features/publish/EditForm";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog, Line } from "@/ui/FormDialog";
import { More } from "@/ui/More";
import { useWrong } from "@/ui/wrong";
import { changeLimit, limitQuery, limitsQuery, makeLimit } from "./queries";
import { ScopeFields } from "./ScopeFields";
import { isComplete, LIMIT, NEW, wantedOf, type LimitWritten } from "./written";

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

export function LimitForm({ close }: { close: () => void }) {
  const [written, setWritten] = useState<LimitWritten>(NEW);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const name = written.name.trim();
  return (
    <FormDialog
      title={t`Add a limit`}
      deed={name ? t`Add ${name}` : t`Add the limit`}
      complete={isComplete(written)}
      act={() => makeLimit(wantedOf(written))}
      draft={() => draftEntry("limit", name, { ...wantedOf(written) }, "none")}
      done={async (limit) => {
        await queries.invalidateQueries({ queryKey: limitsQuery.queryKey });
        close();
        await navigate({ to: "/limits/$name", params: { name: limit.name } });
      }}
      close={close}
    >
      <LimitFields written={written} change={(part) => setWritten({ ...written, ...part })} />
    </FormDialog>
  );
}

export function LimitEditForm({ limit, close }: { limit: Limit; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <EditForm
      shape={LIMIT}
      thing={limit}
      save={(version, patch) => changeLimit(limit.name, version, patch)}
      reread={() => queries.fetchQuery({ ...limitQuery(limit.name), staleTime: 0 })}
      shown={[limitsQuery.queryKey, ["limit-state"]]}
      done={(saved) => navigate({ to: "/limits/$name", params: { name: saved.name } })}
      complete={isComplete}
      close={close}
    >
      {(written, change) => <LimitFields written={written} change={change} />}
    </EditForm>
  );
}

function LimitFields({ written, change }: { written: LimitWritten; change: (part: Partial<LimitWritten>) => void }) {
  const wrong = useWrong();
  const { metric } = written;
  const costs = metric === "cost_usd";
  return (
    <>
      <TextInput label={t`Name`} description={t`A refused caller reads it`} required value={written.name} onChange={(event) => change({ name: event.currentTarget.value })} error={wrong("name")} data-autofocus />
      <ScopeFields scope={written.scope} set={(scope) => change({ scope })} />
      <Line>
        <NumberInput
          label={t`At most`}
          required
          min={0}
          allowNegative={false}
          allowDecimal={costs}
          decimalScale={6}
          thousandSeparator=","
          prefix={costs ? "$" : ""}
          value={written.atMost}
          onChange={(atMost) => change({ atMost })}
          error={wrong("at_most")}
          hideControls
        />
        <Select label={t`Of`} data={[...METRICS]} value={metric} allowDeselect={false} onChange={(chosen) => change({ metric: chosen as Metric })} error={wrong("metric")} />
        {metric === "concurrent_requests" ? null : (
          <Select label={t`In`} data={[...WINDOWS]} value={written.window} allowDeselect={false} onChange={(chosen) => change({ window: chosen as WindowName })} error={wrong("window")} />
        )}
      </Line>
      <More title={<Trans>When it cannot be counted</Trans>} fields={["unpriced", "when_unavailable"]}>
        {costs ? (
          <Switch
            label={t`Let requests pass that have no price`}
            description={t`They cost nothing here; else they are refused`}
            checked={written.unpriced === "admit"}
            onChange={(event) => change({ unpriced: event.currentTarget.checked ? "admit" : "refuse" })}
          />
        ) : null}
        <Switch
          label={t`Let requests pass while the quota authority is away`}
          description={t`They are counted once it is back; else they are refused`}
          checked={written.whenUnavailable === "admit"}
          onChange={(event) => change({ whenUnavailable: event.currentTarget.checked ? "admit" : "refuse" })}
        />
      </More>
    </>
  );
}

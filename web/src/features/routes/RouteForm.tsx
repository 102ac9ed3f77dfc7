/** A new route for callers that name a model: its targets, and which of them is taken. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Autocomplete, Button, NumberInput, Select, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Strategy } from "@/api/model";
import { usageQuery } from "@/features/overview/queries";
import { providersQuery } from "@/features/providers/queries";
import { FormDialog } from "@/ui/FormDialog";
import { sentence } from "@/units/words";
import { makeRoute, routesQuery } from "./queries";
import styles from "./routes.module.css";
import { STRATEGIES } from "./target";

interface Wanted {
  provider: string;
  model: string;
  weight: number;
}

const CHOICES = Object.entries(STRATEGIES).map(([value, how]) => ({ value, label: sentence(how) }));

export function RouteForm({ close }: { close: () => void }) {
  const providers = useQuery(providersQuery).data?.filter((each) => each.dialect !== "http").map((each) => each.name) ?? [];
  const [name, setName] = useState("");
  const [strategy, setStrategy] = useState<Strategy>("ordered");
  const [targets, setTargets] = useState<readonly Wanted[]>([{ provider: "", model: "", weight: 1 }]);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const change = (at: number, part: Partial<Wanted>): void => setTargets(targets.map((target, index) => (index === at ? { ...target, ...part } : target)));

  return (
    <FormDialog
      title={t`Add a route`}
      deed={name.trim() ? t`Add ${name.trim()}` : t`Add the route`}
      complete={name.trim() !== "" && targets.every((target) => target.provider !== "" && target.model.trim() !== "")}
      act={() => makeRoute({ name: name.trim(), strategy, targets: targets.map((target) => ({ ...target, model: target.model.trim() })) })}
      done={async (route) => {
        await queries.invalidateQueries({ queryKey: routesQuery.queryKey });
        close();
        await navigate({ to: "/routes/$name", params: { name: route.name } });
      }}
      close={close}
    >
      <TextInput label={t`Name`} description={t`What callers write as “model”; each target's model is the provider's own name for it`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Select label={t`Targets are taken`} data={CHOICES} value={strategy} allowDeselect={false} onChange={(chosen) => setStrategy(chosen as Strategy)} />
      {targets.map((target, at) => (
        <fieldset key={at} className={styles.wanted}>
          <legend>{t`Target ${at + 1}`}</legend>
          <Select aria-label={t`Provider of target ${at + 1}`} placeholder={t`Provider`} data={providers} value={target.provider || null} onChange={(chosen) => change(at, { provider: chosen ?? "" })} searchable />
          <ModelField at={at} target={target} change={(model) => change(at, { model })} />
          {strategy === "weighted" ? (
            <NumberInput aria-label={t`Weight of target ${at + 1}`} min={0} max={1_000_000} allowDecimal={false} hideControls value={target.weight} onChange={(weight) => change(at, { weight: Number(weight) })} className={styles.weight ?? ""} />
          ) : null}
          {targets.length > 1 ? (
            <ActionIcon variant="subtle" color="gray" size="lg" onClick={() => setTargets(targets.filter((_, index) => index !== at))} aria-label={t`Take target ${at + 1} away`}>
              <IconTrash size={16} />
            </ActionIcon>
          ) : null}
        </fieldset>
      ))}
      <div>
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => setTargets([...targets, { provider: "", model: "", weight: 1 }])}>
          <Trans>Add a target</Trans>
        </Button>
      </div>
    </FormDialog>
  );
}

/** Any model may be written; those that this provider has served in the last month are proposed. */
function ModelField({ at, target, change }: { at: number; target: Wanted; change: (model: string) => void }) {
  const served = useQuery(usageQuery("provider,model", "30d")).data ?? [];
  const known = served.flatMap((item) => (item.provider === target.provider && item.model ? [item.model] : []));
  return <Autocomplete aria-label={t`Model of target ${at + 1}`} placeholder={t`Model`} data={[...new Set(known)]} value={target.model} onChange={change} />;
}

/** The targets of a route in their order: chosen, weighed, moved up and down by buttons, taken away. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Autocomplete, Button, NumberInput, Select } from "@mantine/core";
import { IconArrowDown, IconArrowUp, IconPlus, IconTrash } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useRef } from "react";
import { usageQuery } from "@/features/overview/queries";
import { providersQuery } from "@/features/providers/queries";
import { useWrong } from "@/ui/wrong";
import styles from "./routes.module.css";
import type { RouteWritten, TargetWritten } from "./written";

interface TargetFieldsProps {
  written: RouteWritten;
  set: (targets: readonly TargetWritten[]) => void;
}

export function TargetFields({ written, set }: TargetFieldsProps) {
  const { targets, http, strategy } = written;
  const providers = useQuery(providersQuery).data?.filter((each) => (each.dialect === "http") === http).map((each) => each.name) ?? [];
  const fields = useRef<HTMLDivElement>(null);
  const wrong = useWrong();
  const change = (at: number, part: Partial<TargetWritten>): void => set(targets.map((target, index) => (index === at ? { ...target, ...part } : target)));

  function move(at: number, by: -1 | 1): void {
    const moved = [...targets];
    [moved[at], moved[at + by]] = [moved[at + by]!, moved[at]!];
    set(moved);
    // The focus goes with the target, so that it can be moved on.
    const there = at + by;
    const onward = (by === -1 ? there > 0 : there < moved.length - 1) ? by : -by;
    requestAnimationFrame(() => fields.current?.querySelector<HTMLElement>(`[data-move="${there} ${onward}"]`)?.focus());
  }

  return (
    <div ref={fields} className={styles.fields}>
      {targets.map((target, at) => (
        <fieldset key={at} className={styles.wanted}>
          <legend>{t`Target ${at + 1}`}</legend>
          <Select aria-label={t`Provider of target ${at + 1}`} placeholder={t`Provider`} data={providers} value={target.provider || null} onChange={(chosen) => change(at, { provider: chosen ?? "" })} searchable error={wrong(`targets.${at}.provider`)} />
          {http ? null : <ModelField at={at} target={target} change={(model) => change(at, { model })} />}
          {strategy === "weighted" ? (
            <NumberInput aria-label={t`Weight of target ${at + 1}`} min={0} max={1_000_000} allowDecimal={false} hideControls value={target.weight} onChange={(weight) => change(at, { weight: Number(weight) })} className={styles.weight ?? ""} />
          ) : null}
          {targets.length > 1 ? (
            <span className={styles.moves}>
              <ActionIcon data-move={`${at} -1`} variant="subtle" color="gray" disabled={at === 0} onClick={() => move(at, -1)} aria-label={t`Move target ${at + 1} up`}>
                <IconArrowUp size={16} />
              </ActionIcon>
              <ActionIcon data-move={`${at} 1`} variant="subtle" color="gray" disabled={at === targets.length - 1} onClick={() => move(at, 1)} aria-label={t`Move target ${at + 1} down`}>
                <IconArrowDown size={16} />
              </ActionIcon>
              <ActionIcon variant="subtle" color="gray" onClick={() => set(targets.filter((_, index) => index !== at))} aria-label={t`Take target ${at + 1} away`}>
                <IconTrash size={16} />
              </ActionIcon>
            </span>
          ) : null}
        </fieldset>
      ))}
      <div>
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => set([...targets, { provider: "", model: "", weight: 1 }])}>
          <Trans>Add a target</Trans>
        </Button>
      </div>
    </div>
  );
}

/** Any model may be written; those that this provider has served in the last month are proposed. */
function ModelField({ at, target, change }: { at: number; target: TargetWritten; change: (model: string) => void }) {
  const served = useQuery(usageQuery("provider,model", "30d")).data ?? [];
  const known = served.flatMap((item) => (item.provider === target.provider && item.model ? [item.model] : []));
  return <Autocomplete aria-label={t`Model of target ${at + 1}`} placeholder={t`Model`} data={[...new Set(known)]} value={target.model} onChange={change} />;
}

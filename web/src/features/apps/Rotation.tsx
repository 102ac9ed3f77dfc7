/** A new text for a key, with a time in which the old one is good, too. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Select } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { App, Key, KeyMade } from "@/api/model";
import { When } from "@/ui/Figure";
import { FormDialog } from "@/ui/FormDialog";
import { Mark } from "@/ui/Mark";
import { ShownOnce } from "@/ui/ShownOnce";
import styles from "./keys.module.css";
import { keysQuery, retireKey, rotateKey } from "./queries";

const OVERLAPS = [
  { value: "", label: t`Not at all: refused at once` },
  { value: "1h", label: t`For an hour` },
  { value: "24h", label: t`For a day` },
  { value: "7d", label: t`For 7 days` },
  { value: "30d", label: t`For 30 days` },
];

export function RotateForm({ app, rotated, close }: { app: App; rotated: Key; close: () => void }) {
  const [overlap, setOverlap] = useState("24h");
  const [made, setMade] = useState<KeyMade>();
  const queries = useQueryClient();
  if (made?.key) return <ShownOnce title={t`New text of the key ${made.name} for ${app.name}`} secret={made.key} copy={t`Copy the key`} close={close} />;
  return (
    <FormDialog
      title={t`Rotate ${rotated.name}`}
      deed={t`Make a new text`}
      complete
      act={() => rotateKey(rotated.id, overlap === "" ? null : overlap)}
      done={async (key) => {
        setMade(key);
        await queries.invalidateQueries({ queryKey: keysQuery.queryKey });
      }}
      close={close}
    >
      <div>
        <Trans>The key stays the same: its name, its limits and its usage go on. Only its text is new.</Trans>
      </div>
      <Select label={t`The old text stays good`} data={OVERLAPS} value={overlap} allowDeselect={false} onChange={(chosen) => setOverlap(chosen ?? "")} />
    </FormDialog>
  );
}

/** The old text is good still: until when, and a button that ends that. */
export function Overlap({ key_ }: { key_: Key }) {
  const queries = useQueryClient();
  const ending = useMutation({
    mutationFn: () => retireKey(key_.id),
    onSettled: () => queries.invalidateQueries({ queryKey: keysQuery.queryKey }),
  });
  if (new Date(key_.previous_until ?? 0).getTime() <= Date.now()) return null;
  return (
    <div className={styles.overlap}>
      <Mark tone="info">
        <Trans>
          the old text is good until <When at={key_.previous_until} />
        </Trans>
      </Mark>
      <Button size="compact-xs" variant="subtle" loading={ending.isPending} onClick={() => ending.mutate()} aria-label={t`Refuse it now: the old text of ${key_.name}`}>
        <Trans>Refuse it now</Trans>
      </Button>
    </div>
  );
}

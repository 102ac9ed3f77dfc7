/** Whether a route records the bodies of its requests, what that means, and the form that turns it on and off. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, NumberInput, Switch, Textarea } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Capture, Route } from "@/api/model";
import { useMay } from "@/api/session";
import { draftEntry } from "@/features/publish/queries";
import { Confirm } from "@/ui/Confirm";
import { Facts, Part } from "@/ui/Drawer";
import { FormDialog, Line } from "@/ui/FormDialog";
import { Mark } from "@/ui/Mark";
import { bytes, share } from "@/units/count";
import { eraseBodies, record, routesQuery } from "./queries";
import styles from "./routes.module.css";

type Open = "form" | "off" | "erase";

const KIB = 1024;
const USUAL: Capture = { request: true, response: true, sample: 1, max_bytes: 64 * KIB, keep: "7d", redact: [], visible_to_team: false };

export function CapturePart({ route }: { route: Route }) {
  const may = useMay();
  const [open, setOpen] = useState<Open | null>(null);
  const queries = useQueryClient();
  const capture = route.capture;
  const close = (): void => setOpen(null);
  const changed = (): Promise<void> => queries.invalidateQueries({ queryKey: routesQuery.queryKey });
  return (
    <Part title={t`Bodies`}>
      {capture ? <Facts facts={facts(capture)} /> : <p className={styles.how}>{t`Not recorded. The ledger keeps figures alone: no word of a request or answer is written anywhere.`}</p>}
      <Group gap="xs" mt={8}>
        {may("configuration:write") ? (
          <Button size="xs" variant="default" onClick={() => setOpen("form")}>
            {capture ? t`Change what is recorded` : t`Record bodies`}
          </Button>
        ) : null}
        {may("configuration:write") && capture ? (
          <Button size="xs" variant="default" onClick={() => setOpen("off")}>
            <Trans>Stop recording</Trans>
          </Button>
        ) : null}
        {may("bodies:erase") ? (
          <Button size="xs" variant="default" onClick={() => setOpen("erase")}>
            <Trans>Erase what is recorded</Trans>
          </Button>
        ) : null}
      </Group>
      {open === "form" ? <CaptureForm route={route} close={close} changed={changed} /> : null}
      {open === "off" ? (
        <Confirm
          title={t`Stop recording bodies of ${route.name}?`}
          consequence={<p>{t`From the next request on nothing is recorded. What there is stays for the days that it was to stay.`}</p>}
          deed={t`Stop recording`}
          act={() => record(route, null).then(changed)}
          draft={() => draftEntry("route", route.name, { capture: null })}
          close={close}
        />
      ) : null}
      {open === "erase" ? (
        <Confirm
          title={t`Erase all bodies of ${route.name}?`}
          consequence={<p>{t`All that this node has recorded of this route's requests is removed and cannot be brought back. The ledger's rows stay; the audit log keeps that you did this.`}</p>}
          deed={t`Erase them`}
          act={() => eraseBodies(route.name)}
          close={close}
        />
      ) : null}
    </Part>
  );
}

function facts(capture: Capture): readonly (readonly [string, React.ReactNode])[] {
  return [
    [t`Recorded`, <Mark key="r" tone="warn">{what(capture)}</Mark>],
    [t`Of all requests`, share(capture.sample)],
    [t`Of one body at most`, bytes(capture.max_bytes)],
    [t`Kept for`, plural(days(capture), { one: "# day", other: "# days" })],
    [t`Taken out before writing`, capture.redact.length === 0 ? t`keys, e-mail addresses, card and phone numbers` : t`keys, e-mail addresses, card and phone numbers, ${plural(capture.redact.length, { one: "# pattern", other: "# patterns" })} of yours`],
    [t`May be read by`, capture.visible_to_team ? t`owners, admins, and the app's team` : t`owners and admins`],
  ];
}

const what = (capture: Capture): string => (capture.request && capture.response ? t`requests and answers` : capture.request ? t`requests` : t`answers`);
const days = (capture: Capture): number => Number(capture.keep.replace("d", ""));

function CaptureForm({ route, close, changed }: { route: Route; close: () => void; changed: () => Promise<void> }) {
  const [wanted, setWanted] = useState<Capture>(route.capture ?? USUAL);
  const [patterns, setPatterns] = useState(wanted.redact.join("\n"));
  const set = (part: Partial<Capture>): void => setWanted({ ...wanted, ...part });
  const whole: Capture = { ...wanted, redact: patterns.split("\n").map((line) => line.trim()).filter((line) => line !== "") };
  return (
    <FormDialog
      title={t`Record bodies of ${route.name}`}
      deed={route.capture ? t`Change what is recorded` : t`Record from now on`}
      complete={wanted.request || wanted.response}
      act={() => record(route, whole)}
      draft={() => draftEntry("route", route.name, { capture: { ...whole } })}
      done={async () => {
        await changed();
        close();
      }}
      close={close}
    >
      <p className={styles.warning}>
        <Trans>
          What people write to this route, and what it answers, will lie on this gateway's disk: sealed, and without keys, e-mail addresses, card and phone numbers
          as far as patterns find them. Names, addresses and all else stay in it. Ask who has a say in that before you turn it on.
        </Trans>
      </p>
      <Line>
        <Switch label={t`Requests`} checked={wanted.request} onChange={(event) => set({ request: event.currentTarget.checked })} />
        <Switch label={t`Answers`} checked={wanted.response} onChange={(event) => set({ response: event.currentTarget.checked })} />
      </Line>
      <Line>
        <NumberInput label={t`Share`} suffix=" %" min={0.01} max={100} decimalScale={2} hideControls required value={Number((wanted.sample * 100).toFixed(2))} onChange={(value) => set({ sample: Number(value) / 100 })} />
        <NumberInput label={t`Of one body`} suffix=" KiB" min={1} max={1024} allowDecimal={false} hideControls required value={Math.round(wanted.max_bytes / KIB)} onChange={(value) => set({ max_bytes: Number(value) * KIB })} />
        <NumberInput label={t`Kept for`} suffix={t` days`} min={1} max={400} allowDecimal={false} hideControls required value={days(wanted)} onChange={(value) => set({ keep: `${Number(value)}d` })} />
      </Line>
      <Textarea label={t`Also taken out`} description={t`Regular expressions (RE2), one a line`} autosize minRows={2} maxRows={8} value={patterns} onChange={(event) => setPatterns(event.currentTarget.value)} placeholder="ACME-[0-9]{6}" styles={{ input: { fontFamily: "var(--sg-mono)" } }} />
      <Switch label={t`The app's own team may read them, too`} checked={wanted.visible_to_team} onChange={(event) => set({ visible_to_team: event.currentTarget.checked })} />
    </FormDialog>
  );
}

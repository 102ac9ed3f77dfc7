/** What is to become of a finding. Each decision undoes what the one before it made, so that undo is just another one. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, SegmentedControl, Select, Switch } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Decision, Discovery } from "@/api/model";
import { sessionQuery, useMay } from "@/api/session";
import { appsQuery } from "@/features/apps/queries";
import { Problem } from "@/ui/Answer";
import { Line } from "@/ui/FormDialog";
import { Mark } from "@/ui/Mark";
import styles from "./discoveries.module.css";
import { decide, discoveryQuery } from "./queries";
import { ACTIONS, stateWord, type Action } from "./words";

const EXPIRIES = [
  { value: "", label: t`For ever` },
  { value: "1h", label: t`An hour` },
  { value: "1d", label: t`A day` },
  { value: "7d", label: t`7 days` },
] as const;

/** What one would most likely do next. */
const NEXT: Readonly<Record<Discovery["state"], Action>> = { new: "govern", observe: "govern", ignore: "observe", govern: "observe", deny: "observe" };

export function DecisionForm({ found }: { found: Discovery }) {
  const may = useMay()("configuration:write");
  const role = useQuery(sessionQuery).data?.role;
  const queries = useQueryClient();
  const apps = useQuery(appsQuery).data ?? [];
  const [action, setAction] = useState<Action>(NEXT[found.state]);
  const [expiry, setExpiry] = useState("");
  const [app, setApp] = useState<string | null>(null);
  const [terminate, setTerminate] = useState(false);
  const [undo, setUndo] = useState<Action>();

  const deeds = useMutation({
    mutationFn: (decision: Decision) => decide(found.id, decision),
    onMutate: () => found.state,
    onSuccess: (shown, decision, before) => {
      // Back to what it was; "new" cannot be decided, and observing comes closest.
      const back = before === "new" ? "observe" : before;
      setUndo(back === decision.action ? undefined : back);
      queries.setQueryData(discoveryQuery(found.id).queryKey, shown);
      void queries.invalidateQueries({ queryKey: ["discoveries"] });
    },
  });
  const appNeeded = action === "govern" && apps.length > 1;
  const chosenApp = app ?? (apps.length === 1 ? (apps[0]?.name ?? null) : null);
  const charged = (next: Action): Decision => ({ action: next, ...(next === "govern" && chosenApp ? { app: chosenApp } : {}) });

  return (
    <form
      className={styles.decision}
      onSubmit={(event) => {
        event.preventDefault();
        deeds.mutate({ ...charged(action), ...(expiry ? { expires_in: expiry } : {}), ...(action === "govern" && terminate ? { tls: "terminate" } : {}) });
      }}
    >
      <SegmentedControl
        size="xs"
        fullWidth
        disabled={!may}
        aria-label={t`What is to become of it`}
        value={action}
        onChange={(next) => setAction(next as Action)}
        data={Object.entries(ACTIONS).map(([value, { label }]) => ({ value, label }))}
      />
      <p className={styles.quiet}>{ACTIONS[action].effect(found)}</p>
      <Line>
        <Select label={t`For how long`} data={[...EXPIRIES]} value={expiry} allowDeselect={false} disabled={!may} onChange={(next) => setExpiry(next ?? "")} />
        {action === "govern" ? (
          <Select
            label={t`Charged to the app`}
            data={apps.map(({ name }) => name)}
            value={chosenApp}
            onChange={setApp}
            disabled={!may || apps.length === 0}
            placeholder={apps.length === 0 ? t`there is no app yet` : t`choose one`}
            searchable
          />
        ) : null}
      </Line>
      {action === "govern" ? (
        <Switch
          label={t`Read its requests (ends TLS here)`}
          description={t`For models and tokens. It must trust this gateway's authority. Otherwise its connections are passed on and metered by bytes`}
          checked={terminate}
          disabled={!may}
          onChange={(event) => setTerminate(event.currentTarget.checked)}
        />
      ) : null}
      {deeds.error ? <Problem error={deeds.error} /> : null}
      <div className={styles.deeds}>
        <Button type="submit" {...(action === "deny" ? { color: "red", variant: "outline" } : {})} loading={deeds.isPending} disabled={!may || (appNeeded && !chosenApp)}>
          <span className={styles.deed}>{ACTIONS[action].deed(found)}</span>
        </Button>
        {deeds.data && undo ? (
          <span className={styles.done} role="status">
            <Mark tone="ok">
              {stateWord(deeds.data.state)}
              {deeds.data.denial ?? deeds.data.rule ? `: ${deeds.data.denial ?? deeds.data.rule}` : ""}
            </Mark>
            <Button variant="subtle" size="compact-sm" onClick={() => deeds.mutate(charged(undo))} disabled={deeds.isPending}>
              {ACTIONS[undo].undo}
            </Button>
          </span>
        ) : null}
      </div>
      {may ? null : (
        <p className={styles.quiet}>
          <Trans>Your role ({role}) sees findings and decides nothing. An operator, admin or owner can.</Trans>
        </p>
      )}
    </form>
  );
}

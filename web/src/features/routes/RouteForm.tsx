/** A new route, or changes of one: its targets, which of them is taken, how it waits and retries, what it claims. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { NumberInput, SegmentedControl, Select, Skeleton, Switch, TagsInput, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useRef, useState } from "react";
import { ApiProblem } from "@/api/problem";
import type { Route, Strategy } from "@/api/model";
import { draftEntry, draftEntryQuery } from "@/features/publish/queries";
import { TheirsYours } from "@/features/publish/TheirsYours";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import { FormDialog, Line } from "@/ui/FormDialog";
import { sentence } from "@/units/words";
import { changeRoute, makeRoute, routeQuery, routesQuery } from "./queries";
import styles from "./routes.module.css";
import { STRATEGIES } from "./target";
import { TargetFields } from "./TargetFields";
import { changesOf, isComplete, NEW, wantedOf, writtenOf, type RouteWritten } from "./written";

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
        onChange={(chosen) => setWritten({ ...written, http: chosen === "http", targets: NEW.targets })}
      />
      <TextInput
        label={t`Name`}
        description={written.http ? t`What apps, limits and the ledger call it` : t`What callers write as “model”; each target's model is the provider's own name for it`}
        required
        value={written.name}
        onChange={(event) => setWritten({ ...written, name: event.currentTarget.value })}
        data-autofocus
      />
      <RouteFields written={written} set={setWritten} />
    </FormDialog>
  );
}

/** Begins with what the draft has of the route, where it has it. */
export function RouteEditForm({ route, close }: { route: Route; close: () => void }) {
  const entry = useQuery({ ...draftEntryQuery("route", route.name), staleTime: Infinity, gcTime: 0, refetchOnWindowFocus: false });
  if (entry.data?.entry) return <Edit route={route} before={entry.data.entry} etag={entry.data.etag} drafted={entry.data.drafted} close={close} />;
  return (
    <Dialog title={t`Change ${route.name}`} close={close}>
      {entry.error ? <Problem error={entry.error} again={() => void entry.refetch()} /> : entry.data ? <Trans>The draft removes this route. Take that back first.</Trans> : <Skeleton height={240} />}
    </Dialog>
  );
}

interface EditProps {
  route: Route;
  before: Readonly<Record<string, unknown>>;
  etag: string;
  drafted: boolean;
  close: () => void;
}

function Edit({ route, before, etag, drafted, close }: EditProps) {
  const [base, setBase] = useState(() => writtenOf(before));
  const [written, setWritten] = useState(base);
  // As it was when the form was opened: what others change meanwhile is no change of ours.
  const [inForce, setInForce] = useState(() => writtenOf({ ...route }));
  // What of it has been seen: of what is in force, and of the draft's entry. Asked for when it is saved, not drawn.
  const seen = useRef({ version: route.version, etag });
  const queries = useQueryClient();
  const changes = changesOf(base, written);
  // Against what is in force all that the form shows is meant, what was drafted before too.
  const direct = changesOf(inForce, written);

  async function done(): Promise<void> {
    await Promise.all([queries.invalidateQueries({ queryKey: routesQuery.queryKey }), queries.invalidateQueries({ queryKey: ["draft"] })]);
    close();
  }

  return (
    <FormDialog
      title={t`Change ${route.name}`}
      deed={t`Save ${route.name}`}
      wide
      complete={isComplete(written) && Object.keys(drafted ? direct : changes).length > 0}
      act={() => changeRoute(route.name, seen.current.version, direct)}
      draft={() => draftEntry("route", route.name, changes, seen.current.etag)}
      done={done}
      close={close}
      problem={(error, again) =>
        error instanceof ApiProblem && error.status === 412 ? (
          <Changed
            error={error}
            name={route.name}
            mine={error.told["etag"] ? changes : direct}
            keep={(state) => {
              seen.current = { ...seen.current, ...state };
              again();
            }}
            take={(theirs, state) => {
              seen.current = { ...seen.current, ...state };
              setBase(theirs);
              if (state.version !== undefined) setInForce(theirs);
              setWritten(theirs);
            }}
          />
        ) : undefined
      }
    >
      {drafted ? (
        <p className={styles.how}>
          <Trans>This route has drafted changes; the form shows them. “Save” puts all of it into force at once.</Trans>
        </p>
      ) : null}
      <RouteFields written={written} set={setWritten} />
    </FormDialog>
  );
}

interface ChangedProps {
  error: ApiProblem;
  name: string;
  mine: Readonly<Record<string, unknown>>;
  keep: (state: { version?: number; etag?: string }) => void;
  take: (theirs: RouteWritten, state: { version?: number; etag?: string }) => void;
}

/** 412: of a draft the answer says what is there; of what is in force it is read again. */
function Changed({ error, name, mine, keep, take }: ChangedProps) {
  const told = error.told["theirs"] as Readonly<Record<string, unknown>> | undefined;
  const etag = error.told["etag"] as string | undefined;
  const now = useQuery({ ...routeQuery(name), enabled: etag === undefined, staleTime: 0, gcTime: 0, refetchOnMount: "always" });
  if (etag !== undefined && !told) return <Problem error={error} />; // it is not there any more
  const theirs = etag === undefined ? (now.isFetching ? undefined : now.data) : told;
  if (!theirs) return now.error ? <Problem error={now.error} /> : <Skeleton height={80} />;
  const written = writtenOf({ ...theirs });
  const wanted = wantedOf(written) as unknown as Record<string, unknown>;
  const state = etag === undefined ? (now.data ? { version: now.data.version } : {}) : { etag };
  return <TheirsYours fields={Object.entries(mine).map(([field, yours]) => ({ field, yours, theirs: wanted[field] }))} keep={() => keep(state)} take={() => take(written, state)} />;
}

function RouteFields({ written, set }: { written: RouteWritten; set: (written: RouteWritten) => void }) {
  const change = (part: Partial<RouteWritten>): void => set({ ...written, ...part });
  const wait = (which: keyof RouteWritten["timeout"], label: string) => (
    <NumberInput label={label} suffix=" s" min={0.001} max={86_400} decimalScale={3} hideControls required value={written.timeout[which]} onChange={(value) => change({ timeout: { ...written.timeout, [which]: Number(value) } })} />
  );
  return (
    <>
      {written.http ? (
        <Line>
          <TextInput label={t`Claims the host`} placeholder="crm.internal" value={written.host} onChange={(event) => change({ host: event.currentTarget.value })} />
          <TextInput label={t`And paths below`} placeholder="/v2/" value={written.path} onChange={(event) => change({ path: event.currentTarget.value })} />
        </Line>
      ) : null}
      <Select label={t`Targets are taken`} data={CHOICES} value={written.strategy} allowDeselect={false} onChange={(chosen) => change({ strategy: chosen as Strategy })} />
      <TargetFields written={written} set={(targets) => change({ targets })} />
      <details className={styles.more}>
        <summary>
          <Trans>How it waits, retries, and what else it does</Trans>
        </summary>
        <div className={styles.fields}>
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
          <TagsInput label={t`Prefers providers with the tags`} description={t`In this order; the others are fallback`} value={[...written.prefer]} onChange={(prefer) => change({ prefer })} />
          {written.http ? (
            <>
              <Switch label={t`Send the path upstream without its prefix`} checked={written.stripPrefix} disabled={written.path.trim() === ""} onChange={(event) => change({ stripPrefix: event.currentTarget.checked })} />
              <Switch label={t`Send the caller's Host upstream`} checked={written.preserveHost} onChange={(event) => change({ preserveHost: event.currentTarget.checked })} />
            </>
          ) : null}
          <Switch label={t`When the client leaves, read the answer to its end`} checked={written.readToEnd} onChange={(event) => change({ readToEnd: event.currentTarget.checked })} />
        </div>
      </details>
    </>
  );
}

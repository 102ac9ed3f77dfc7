/** The dialog that edits a thing: begins with what the draft has of it, saves into the draft or at once, tells what others did meanwhile. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery, useQueryClient, type QueryKey } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { ApiProblem } from "@/api/problem";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import { FormDialog } from "@/ui/FormDialog";
import { patched, type Fields } from "./patch";
import styles from "./publish.module.css";
import { draftEntry, draftEntryQuery } from "./queries";
import { TheirsYours } from "./TheirsYours";
import { useEditing, type Drafted, type Seen, type Shape, type Standing } from "./useEditing";

interface EditFormProps<Thing extends Standing, Written> {
  shape: Shape<Written>;
  thing: Thing;
  /** Put a merge patch into force, if the thing still has the version that was seen. */
  save: (version: number, patch: Fields) => Promise<Thing>;
  /** The thing as it is in force now. */
  reread: () => Promise<Thing>;
  title?: string;
  deed?: string;
  /** What shows the thing, and is out of date once it is saved. */
  shown: readonly QueryKey[];
  /** After it was put into force: it may have another name now. */
  done?: (thing: Thing) => unknown;
  complete: (written: Written) => boolean;
  /** What else is to be said where the draft has changes of it. */
  note?: ReactNode;
  /** What another name brings with it. */
  renaming?: ReactNode;
  wide?: boolean;
  close: () => void;
  children: (written: Written, change: (part: Partial<Written>) => void) => ReactNode;
}

export function EditForm<Thing extends Standing, Written>(props: EditFormProps<Thing, Written>) {
  const { shape, thing, close } = props;
  const mayDraft = useMay()("configuration:write");
  const entry = useQuery({ ...draftEntryQuery(shape.kind, thing.name), enabled: mayDraft, staleTime: Infinity, gcTime: 0, refetchOnWindowFocus: false });
  if (!mayDraft) return <Fill {...props} draft={undefined} />;
  if (entry.data?.entry) return <Fill {...props} draft={{ entry: entry.data.entry, etag: entry.data.etag, drafted: entry.data.drafted }} />;
  return (
    <Dialog title={props.title ?? t`Edit ${thing.name}`} close={close}>
      {entry.error ? <Problem error={entry.error} again={() => void entry.refetch()} /> : entry.data ? <Trans>The draft removes it. Take that back first.</Trans> : <Skeleton height={240} />}
    </Dialog>
  );
}

function Fill<Thing extends Standing, Written>({ shape, thing, save, reread, title, deed, shown, done, complete, note, renaming, wide = false, close, children, draft }: EditFormProps<Thing, Written> & { draft: Drafted | undefined }) {
  const editing = useEditing(shape, thing, draft);
  const { written, change, changes, direct, touched, seen } = editing;
  const queries = useQueryClient();
  const renamed = "name" in direct;
  return (
    <FormDialog
      title={title ?? t`Edit ${thing.name}`}
      deed={deed ?? t`Save ${thing.name}`}
      wide={wide}
      complete={complete(written) && touched}
      act={() => save(seen().version, direct)}
      draft={draft && !renamed ? () => draftEntry(shape.kind, thing.name, { ...changes }, seen().etag) : undefined}
      done={async (saved) => {
        const refresh = () => Promise.all([...shown, ["draft"]].map((queryKey) => queries.invalidateQueries({ queryKey })));
        if (!renamed) await refresh();
        close();
        await done?.(saved);
        if (renamed) await refresh(); // not before: nothing is to be found under its old name
      }}
      close={close}
      problem={(error, again) =>
        error instanceof ApiProblem && error.status === 412 ? (
          <Changed
            error={error}
            shape={shape}
            reread={reread}
            mine={error.told["etag"] ? changes : direct}
            keep={(now) => {
              editing.keep(now);
              again();
            }}
            take={editing.take}
          />
        ) : undefined
      }
    >
      {draft?.drafted ? (
        <p className={styles.drafted}>
          <Trans>The draft has changes of it, and the form shows them. “Save” puts all of it into force at once.</Trans> {note}
        </p>
      ) : null}
      {renamed ? (
        <p className={styles.drafted} role="status">
          {draft ? <Trans>A new name comes into force at once: no draft renames.</Trans> : null} {renaming}
        </p>
      ) : null}
      {children(written, change)}
    </FormDialog>
  );
}

interface ChangedProps<Written> {
  error: ApiProblem;
  shape: Shape<Written>;
  reread: () => Promise<Standing>;
  mine: Fields;
  keep: (now: Seen) => void;
  take: (theirs: Written, now: Seen) => void;
}

/** 412: of a draft the answer says what is there; of what is in force it is read again. */
function Changed<Written>({ error, shape, reread, mine, keep, take }: ChangedProps<Written>) {
  const told = error.told["theirs"] as Fields | null | undefined;
  const etag = error.told["etag"] as string | undefined;
  const now = useQuery({ queryKey: ["reread", shape.kind, error.requestId], queryFn: reread, enabled: etag === undefined, staleTime: Infinity, gcTime: 0, refetchOnWindowFocus: false });
  if (etag !== undefined && !told) return <Problem error={error} />; // it is not there any more
  const theirs = etag === undefined ? now.data && { ...now.data } : told;
  if (!theirs) return now.error ? <Problem error={now.error} /> : <Skeleton height={80} />;
  const written = shape.read(theirs);
  const wanted = shape.wanted(written);
  const shownAs = shape.shown ?? ((value: unknown) => value);
  const state = etag === undefined ? (now.data ? { version: now.data.version } : {}) : { etag };
  return (
    <TheirsYours
      fields={Object.entries(mine).map(([field, part]) => ({ field, yours: shownAs(patched(wanted[field], part)), theirs: shownAs(wanted[field]) }))}
      keep={() => keep(state)}
      take={() => take(written, state)}
    />
  );
}

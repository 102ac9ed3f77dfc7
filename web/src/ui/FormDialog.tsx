/** Every form of the console: fields, what went wrong, and a button that names the deed. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, type FormEvent, type ReactNode } from "react";
import { ApiProblem, type FieldProblem } from "@/api/problem";
import { Problem } from "./Answer";
import { Dialog } from "./Confirm";
import styles from "./FormDialog.module.css";
import { Wrong } from "./wrong";

interface FormDialogProps<Result> {
  title: string;
  deed: string;
  /** Whether all that is needed has been filled in. */
  complete: boolean;
  act: () => Promise<Result>;
  done: (result: Result) => unknown;
  /** The same change into the draft, in place of into force. */
  draft?: (() => Promise<unknown>) | undefined;
  close: () => void;
  /** Takes the place of what went wrong, where the form has more to say about it. */
  problem?: ((error: unknown, again: () => void) => ReactNode | undefined) | undefined;
  /** For forms with many fields. */
  wide?: boolean;
  children: ReactNode;
}

export function FormDialog<Result>({ title, deed, complete, act, done, draft, close, problem, wide = false, children }: FormDialogProps<Result>) {
  const deeds = useMutation({ mutationFn: act, onSuccess: done });
  const queries = useQueryClient();
  const drafting = useMutation({
    mutationFn: async () => draft?.(),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["draft"] });
      close();
    },
  });
  const error = deeds.error ?? drafting.error;
  const form = useRef<HTMLFormElement>(null);
  // What is wrong may be out of sight: the first such field gets the focus, else what is said of it is brought into view.
  useEffect(() => {
    if (!error) return undefined;
    const waiting = window.setTimeout(() => {
      const field = form.current?.querySelector<HTMLElement>("[aria-invalid=true]");
      if (field) field.focus();
      else form.current?.querySelector("[role=alert]")?.scrollIntoView({ block: "nearest" });
    }, 50); // until the part of the form that it is in has been opened
    return () => window.clearTimeout(waiting);
  }, [error]);

  function submit(event: FormEvent): void {
    event.preventDefault();
    drafting.reset();
    deeds.mutate();
  }

  return (
    <Dialog title={title} close={close} wide={wide}>
      <form ref={form} onSubmit={submit} className={styles.form}>
        {error ? (problem?.(error, () => (drafting.error ? drafting.mutate() : deeds.mutate())) ?? <Problem error={error} />) : null}
        <Wrong.Provider value={error instanceof ApiProblem ? error.fields : NOTHING}>{children}</Wrong.Provider>
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            <Trans>Cancel</Trans>
          </Button>
          {draft ? (
            <Button
              variant="default"
              loading={drafting.isPending}
              disabled={!complete}
              title={t`Nothing is in force until the draft is published`}
              onClick={(event) => {
                if (event.currentTarget.form?.reportValidity() === false) return;
                deeds.reset();
                drafting.mutate();
              }}
            >
              <Trans>Save to draft</Trans>
            </Button>
          ) : null}
          <Button type="submit" loading={deeds.isPending} disabled={!complete}>
            {deed}
          </Button>
        </Group>
      </form>
    </Dialog>
  );
}

const NOTHING: readonly FieldProblem[] = [];

/** Two or three fields in one line, where there is room. */
export function Line({ children }: { children: ReactNode }) {
  return <div className={styles.line}>{children}</div>;
}

/** Every form of the console: fields, what went wrong, and a button that names the deed. */
import { Trans } from "@lingui/react/macro";
import { Button, Group } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import type { FormEvent, ReactNode } from "react";
import { Problem } from "./Answer";
import { Dialog } from "./Confirm";
import styles from "./FormDialog.module.css";

interface FormDialogProps<Result> {
  title: string;
  deed: string;
  /** Whether all that is needed has been filled in. */
  complete: boolean;
  act: () => Promise<Result>;
  done: (result: Result) => unknown;
  close: () => void;
  children: ReactNode;
}

export function FormDialog<Result>({ title, deed, complete, act, done, close, children }: FormDialogProps<Result>) {
  const deeds = useMutation({ mutationFn: act, onSuccess: done });

  function submit(event: FormEvent): void {
    event.preventDefault();
    deeds.mutate();
  }

  return (
    <Dialog title={title} close={close}>
      <form onSubmit={submit} className={styles.form}>
        {deeds.error ? <Problem error={deeds.error} /> : null}
        {children}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            <Trans>Cancel</Trans>
          </Button>
          <Button type="submit" loading={deeds.isPending} disabled={!complete}>
            {deed}
          </Button>
        </Group>
      </form>
    </Dialog>
  );
}

/** Two or three fields in one line, where there is room. */
export function Line({ children }: { children: ReactNode }) {
  return <div className={styles.line}>{children}</div>;
}

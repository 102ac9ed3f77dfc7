/** The question before a deed that cannot be undone: the consequence first, the button names the deed. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, Modal } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useIsAsked } from "@/api/presence";
import { Problem } from "./Answer";
import { useFocusBack } from "./focusBack";

interface ConfirmProps {
  title: string;
  consequence: ReactNode;
  deed: string;
  act: () => Promise<unknown>;
  /** The same into the draft, in place of at once. */
  draft?: (() => Promise<unknown>) | undefined;
  close: () => void;
}

export function Confirm({ title, consequence, deed, act, draft, close }: ConfirmProps) {
  const deeds = useMutation({ mutationFn: act, onSuccess: close });
  const queries = useQueryClient();
  const drafting = useMutation({
    mutationFn: async () => draft?.(),
    onSuccess: async () => {
      await queries.invalidateQueries({ queryKey: ["draft"] });
      close();
    },
  });
  const error = deeds.error ?? drafting.error;
  return (
    <Dialog title={title} close={close}>
      <div>{consequence}</div>
      {error ? <Problem error={error} /> : null}
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={close} data-autofocus>
          <Trans>Keep it</Trans>
        </Button>
        {draft ? (
          <Button variant="default" loading={drafting.isPending} onClick={() => drafting.mutate()}>
            <Trans>Save to draft</Trans>
          </Button>
        ) : null}
        <Button color="red" variant="outline" loading={deeds.isPending} onClick={() => deeds.mutate()}>
          {deed}
        </Button>
      </Group>
    </Dialog>
  );
}

interface DialogProps {
  title: string;
  close: () => void;
  children: ReactNode;
  /** A click beside it does not close it. */
  firm?: boolean;
  wide?: boolean;
  /** It asks who sits there, above whatever is open. */
  topmost?: boolean;
}

/** Every dialog of the console. Scrolling is not locked: the lock would be a style element, which the CSP refuses. */
export function Dialog({ title, close, children, firm = false, wide = false, topmost = false }: DialogProps) {
  useFocusBack();
  const below = useIsAsked() && !topmost;
  return (
    <Modal
      opened
      onClose={close}
      title={title}
      centered
      size={wide ? 620 : "md"}
      lockScroll={false}
      closeOnClickOutside={!firm && !below}
      closeOnEscape={!below}
      inert={below}
      transitionProps={{ duration: 120 }}
      closeButtonProps={{ "aria-label": t`Close` }}
    >
      <div style={{ display: "grid", gridTemplateColumns: "minmax(0, 1fr)", gap: 16 }}>{children}</div>
    </Modal>
  );
}

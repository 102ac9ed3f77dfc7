/** The question before a deed that cannot be undone: the consequence first, the button names the deed. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, Modal } from "@mantine/core";
import { useMutation } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Problem } from "./Answer";

interface ConfirmProps {
  title: string;
  consequence: ReactNode;
  deed: string;
  act: () => Promise<unknown>;
  close: () => void;
}

export function Confirm({ title, consequence, deed, act, close }: ConfirmProps) {
  const deeds = useMutation({ mutationFn: act, onSuccess: close });
  return (
    <Dialog title={title} close={close}>
      <div>{consequence}</div>
      {deeds.error ? <Problem error={deeds.error} /> : null}
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={close} data-autofocus>
          <Trans>Keep it</Trans>
        </Button>
        <Button color="red" variant="outline" loading={deeds.isPending} onClick={() => deeds.mutate()}>
          {deed}
        </Button>
      </Group>
    </Dialog>
  );
}

/** Every dialog of the console. Scrolling is not locked: the lock would be a style element, which the CSP refuses. */
export function Dialog({ title, close, children, firm = false }: { title: string; close: () => void; children: ReactNode; firm?: boolean }) {
  return (
    <Modal
      opened
      onClose={close}
      title={title}
      centered
      lockScroll={false}
      closeOnClickOutside={!firm}
      transitionProps={{ duration: 120 }}
      closeButtonProps={{ "aria-label": t`Close` }}
    >
      <div style={{ display: "grid", gap: 16 }}>{children}</div>
    </Modal>
  );
}

/** A secret that exists in readable form only in this dialog. */
import { Trans } from "@lingui/react/macro";
import { Button, Group } from "@mantine/core";
import { Dialog } from "./Confirm";
import { CopyWide } from "./Copy";
import { Mark } from "./Mark";
import styles from "./ShownOnce.module.css";

export function ShownOnce({ title, secret, copy, close }: { title: string; secret: string; copy: string; close: () => void }) {
  return (
    <Dialog title={title} close={close} firm>
      <Mark tone="warn">
        <Trans>This is shown once: only its hash is kept.</Trans>
      </Mark>
      <code className={styles.secret} data-testid="secret">
        {secret}
      </code>
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={close}>
          <Trans>I have it, close</Trans>
        </Button>
        <CopyWide text={secret} label={copy} />
      </Group>
    </Dialog>
  );
}

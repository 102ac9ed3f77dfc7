/** Recovery codes, in readable form only here. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group } from "@mantine/core";
import { Dialog } from "@/ui/Confirm";
import { CopyWide } from "@/ui/Copy";
import { Mark } from "@/ui/Mark";
import styles from "./account.module.css";

export function RecoveryCodes({ codes, close }: { codes: readonly string[]; close: () => void }) {
  return (
    <Dialog title={t`Keep your recovery codes`} close={close} firm>
      <div>
        <Trans>When your authenticator app and passkeys are lost, each of these lets you in once, after the password. Print them, or keep them in a password manager.</Trans>
      </div>
      <Mark tone="warn">{t`Shown once: only hashes are kept.`}</Mark>
      <ul className={styles.codes} data-testid="recovery-codes">
        {codes.map((code) => (
          <li key={code}>{code}</li>
        ))}
      </ul>
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={close}>
          <Trans>I have them, close</Trans>
        </Button>
        <CopyWide text={codes.join("\n")} label={t`Copy the codes`} />
      </Group>
    </Dialog>
  );
}

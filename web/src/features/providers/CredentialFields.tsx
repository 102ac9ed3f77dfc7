/** A provider's credentials by name: added, replaced, taken away. Stored secrets are never shown. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, PasswordInput, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useWrong } from "@/ui/wrong";
import styles from "./providers.module.css";
import type { CredentialWritten } from "./written";

interface CredentialFieldsProps {
  credentials: readonly CredentialWritten[];
  set: (credentials: readonly CredentialWritten[]) => void;
}

export function CredentialFields({ credentials, set }: CredentialFieldsProps) {
  const wrong = useWrong();
  const change = (at: number, part: Partial<CredentialWritten>): void => set(credentials.map((each, index) => (index === at ? { ...each, ...part } : each)));
  return (
    <fieldset className={styles.credentials}>
      <legend>
        <Trans>Credentials</Trans>
      </legend>
      {credentials.map((each, at) => (
        <div key={at} className={styles.credential}>
          <TextInput
            aria-label={t`Name of credential ${at + 1}`}
            placeholder={t`Name`}
            value={each.name}
            readOnly={each.stored}
            onChange={(event) => change(at, { name: event.currentTarget.value })}
            error={wrong(`credentials.${at}.name`)}
          />
          <PasswordInput
            aria-label={t`Secret of credential ${at + 1}`}
            placeholder={each.stored ? t`stored; write another to replace it` : t`The vendor's API key`}
            value={each.value}
            onChange={(event) => change(at, { value: event.currentTarget.value })}
            error={wrong(`credentials.${at}.value`)}
            autoComplete="off"
            visibilityToggleButtonProps={{ "aria-label": t`Show the secret` }}
          />
          <ActionIcon variant="subtle" color="gray" size="lg" onClick={() => set(credentials.filter((_, index) => index !== at))} aria-label={t`Take credential ${each.name || at + 1} away`}>
            <IconTrash size={16} />
          </ActionIcon>
        </div>
      ))}
      <div>
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => set([...credentials, { name: credentials.length === 0 ? "main" : "", value: "", stored: false }])}>
          <Trans>Add a credential</Trans>
        </Button>
      </div>
    </fieldset>
  );
}

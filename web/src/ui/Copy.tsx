/** Copying: a button that says that it has, and a snippet of text worth copying. */
import { t } from "@lingui/core/macro";
import { ActionIcon, Button, CopyButton } from "@mantine/core";
import { IconCheck, IconCopy } from "@tabler/icons-react";
import styles from "./Copy.module.css";

export function CopyIcon({ text, what }: { text: string; what: string }) {
  return (
    <CopyButton value={text} timeout={1500}>
      {({ copied, copy }) => (
        <ActionIcon variant="subtle" color="gray" size="sm" onClick={copy} aria-label={copied ? t`Copied ${what}` : t`Copy ${what}`}>
          {copied ? <IconCheck size={14} /> : <IconCopy size={14} />}
        </ActionIcon>
      )}
    </CopyButton>
  );
}

export function CopyWide({ text, label }: { text: string; label: string }) {
  return (
    <CopyButton value={text} timeout={2000}>
      {({ copied, copy }) => (
        <Button onClick={copy} leftSection={copied ? <IconCheck size={16} /> : <IconCopy size={16} />}>
          {copied ? t`Copied` : label}
        </Button>
      )}
    </CopyButton>
  );
}

/** An id or another word for machines, in mono, with its copy button. */
export function Id({ text, what = t`id` }: { text: string; what?: string }) {
  return (
    <span className={styles.id}>
      <code>{text}</code>
      <CopyIcon text={text} what={what} />
    </span>
  );
}

export function Snippet({ text, what = t`snippet` }: { text: string; what?: string }) {
  return (
    <div className={styles.snippet}>
      <pre tabIndex={0} aria-label={what}>
        {text}
      </pre>
      <CopyIcon text={text} what={what} />
    </div>
  );
}

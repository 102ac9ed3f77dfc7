/** A copy of all that the gateway keeps: now, by a schedule, and how it comes back. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Snippet } from "@/ui/Copy";
import { When } from "@/ui/Figure";
import { Notice } from "@/ui/Notice";
import { Page, Section } from "@/ui/Page";
import styles from "./installation.module.css";
import { backupsQuery } from "./queries";

const CRON = `# /etc/cron.d/sluicegate-backup
0 3 * * * root sluicegate backup /var/backups/sluicegate-$(date +\\%F).tar.gz`;
const RESTORE = `sluicegate service stop
sluicegate restore sluicegate-20261128-030000.tar.gz
sluicegate service start`;
const KEY = `sluicegate backup FILE --with-key     # the key within: keep the file as safe as it
cp DATA/sealing.key ELSEWHERE         # or the key by itself`;

export function BackupsPage() {
  const may = useMay();
  return (
    <Page
      title={t`Backups`}
      line={t`Database and spool in one file, of one moment, made while the gateway serves.`}
      action={
        may("backup") ? (
          <Button component="a" href="/api/v1/backup" download leftSection={<IconDownload size={16} />}>
            <Trans>Download a backup now</Trans>
          </Button>
        ) : null
      }
    >
      {may("backup") ? null : (
        <Notice title={t`Owners alone may download a backup`}>
          <p>
            <Trans>It holds the hashes of keys and passwords, and everything that was recorded.</Trans>
          </p>
        </Notice>
      )}
      {may("audit:read") ? <Downloaded /> : null}
      <Section title={t`Every night`}>
        <p className={styles.quiet}>
          <Trans>The gateway has no clock for this: a line for cron does it. What SQLite held may be restored into PostgreSQL, and the other way round.</Trans>
        </p>
        <Snippet text={CRON} what={t`line for cron`} />
      </Section>
      <Section title={t`Bring it back`}>
        <p className={styles.quiet}>
          <Trans>Everything is replaced by what the file holds. The file is read to its end before anything is changed; what was there is put aside.</Trans>
        </p>
        <Snippet text={RESTORE} what={t`commands to restore`} />
      </Section>
      <Section title={t`The sealing key`}>
        <p className={styles.quiet}>
          <Trans>A backup from here holds no way to open provider credentials. Without the key they are lost: keep it elsewhere than the backups.</Trans>
        </p>
        <Snippet text={KEY} what={t`commands for the key`} />
      </Section>
    </Page>
  );
}

function Downloaded() {
  const told = useQuery(backupsQuery);
  if (told.error) return <Problem error={told.error} again={() => void told.refetch()} />;
  return (
    <Section title={t`Downloaded from here`}>
      {told.data?.items.length ? (
        <ul className={styles.list}>
          {told.data.items.map((entry) => (
            <li key={entry.seq}>
              <When at={entry.at} /> <Trans>by</Trans> <code>{entry.actor}</code>
            </li>
          ))}
        </ul>
      ) : (
        <p className={styles.quiet}>{told.data ? t`None yet. Those made by the command are not listed: it works without the gateway.` : "…"}</p>
      )}
    </Section>
  );
}

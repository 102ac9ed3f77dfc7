/** What the gateway was told when it started, and by whom. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Switch } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Page } from "@/ui/Page";
import { plain } from "@/units/words";
import styles from "./installation.module.css";
import { settingsQuery, type Setting } from "./queries";

const SOURCES: Readonly<Record<Setting["source"], string>> = { option: t`Option`, variable: t`Variable`, file: t`File`, default: t`Default` };

const COLUMNS: readonly Column<Setting>[] = [
  {
    id: "name",
    header: t`Setting`,
    width: "52%",
    wrap: true,
    sortBy: (each) => each.name,
    cell: (each) => (
      <>
        <code>{each.name}</code>
        <p className={styles.meaning} lang="en">{plain(each.meaning)}</p>
      </>
    ),
  },
  {
    id: "value",
    header: t`Value`,
    wrap: true,
    cell: (each) =>
      each.value === null ? (
        <Unknown why={t`not set`} />
      ) : each.secret ? (
        <Mark tone="ok" title={t`Secrets are never shown`}>{t`Set, not shown`}</Mark>
      ) : (
        <code>{each.value}</code>
      ),
  },
  { id: "source", header: t`Said by`, sortBy: (each) => each.source, cell: (each) => <span title={each.where}>{SOURCES[each.source]}</span> },
  { id: "where", header: t`Where`, hide: "tablet", wrap: true, cell: (each) => (each.where ? <code>{each.where}</code> : null) },
];

export function SettingsPage() {
  const settings = useQuery(settingsQuery);
  const [all, setAll] = useState(false);
  const rows = settings.data?.items.filter((each) => all || each.source !== "default");
  return (
    <Page
      title={t`Settings`}
      line={t`What this gateway goes by since it started. What is managed here, in the console, is no setting.`}
      action={<Switch label={t`Defaults too`} checked={all} onChange={(event) => setAll(event.currentTarget.checked)} />}
    >
      {settings.data ? (
        <p className={styles.quiet}>
          <Trans>
            To change one, write it into <code>{settings.data.file}</code> and run <code>sluicegate service stop</code> and <code>start</code>; many are in force after SIGHUP. Options beat variables, variables the file.
          </Trans>
        </p>
      ) : null}
      <DataTable
        label={t`Settings`}
        columns={COLUMNS}
        rows={rows}
        rowId={(each) => each.name}
        error={settings.error}
        again={() => void settings.refetch()}
        empty={<Empty title={t`All is as it comes`} why={t`Nothing was set by an option, a variable or the file. Turn on “Defaults too” to see what that means.`} />}
      />
    </Page>
  );
}

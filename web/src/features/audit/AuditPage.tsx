/** Who changed what, from where; whether the log is as it was written. */
import { t } from "@lingui/core/macro";
import { Button, Group } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { RANGES, useRange } from "@/app/range";
import type { AuditEntry } from "@/api/model";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Unknown, When } from "@/ui/Figure";
import { FilterBar, type Choice } from "@/ui/FilterBar";
import { Page } from "@/ui/Page";
import { usePaged } from "@/ui/usePaged";
import styles from "./audit.module.css";
import { auditFilters, FILTER_LABELS, type FilterName } from "./filters";
import { auditQuery, exportUrl } from "./queries";
import { Verification } from "./Verification";
import { ActionMark, actorOf, differences, noOrigin } from "./words";

const COLUMNS: readonly Column<AuditEntry>[] = [
  {
    id: "at",
    header: t`Time`,
    width: "120px",
    cell: (entry) => (
      <Link to="/audit/$seq" params={{ seq: String(entry.seq) }} search={(old) => old} className={styles.time}>
        <When at={entry.at} />
      </Link>
    ),
  },
  {
    id: "actor",
    header: t`Who`,
    cell: (entry) => {
      const { kind, name } = actorOf(entry.actor);
      return (
        <>
          {name} <span className={`${styles.quiet} ${styles.actorKind}`}>{kind}</span>
        </>
      );
    },
  },
  { id: "action", header: t`Did`, width: "110px", cell: (entry) => <ActionMark action={entry.action} /> },
  {
    id: "name",
    header: t`What`,
    cell: (entry) => (
      <>
        <span className={styles.quiet}>{entry.kind}</span> {entry.name}
      </>
    ),
  },
  { id: "fields", header: t`Changed`, hide: "tablet", cell: (entry) => <span className={styles.quiet}>{changed(entry)}</span> },
  { id: "origin", header: t`From`, hide: "phone", width: "150px", cell: (entry) => (entry.origin ? <code>{entry.origin}</code> : <Unknown why={noOrigin(entry)} />) },
];

function changed(entry: AuditEntry): string {
  if (entry.before === null || entry.after === null) return "";
  return differences(entry.before, entry.after)
    .map((each) => each.field)
    .join(", ");
}

export function AuditPage() {
  const search = useSearch({ from: "/frame/audit" });
  const filters = useMemo(() => auditFilters(search), [search]);
  const range = useRange();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.seq });
  const paged = usePaged(useInfiniteQuery(auditQuery(filters, range)));
  const open = useCallback((entry: AuditEntry) => void navigate({ to: "/audit/$seq", params: { seq: String(entry.seq) }, search: (old) => old }), [navigate]);
  const filtered = Object.keys(filters).length > 0;
  const span = RANGES[range].label.toLowerCase();
  return (
    <Page
      title={t`Audit`}
      line={t`Who changed what, when and from where. Entries are only ever appended, each sealed to the one before it.`}
      action={
        <Button component="a" href={exportUrl(filters, range)} download variant="default" leftSection={<IconDownload size={16} />}>
          {t`Export as JSON lines`}
        </Button>
      }
      fill
    >
      <Group justify="space-between" align="flex-start" gap="xs">
        <FilterBar labels={FILTER_LABELS} filters={filters} useChoices={choicesOf} placeholder={(name) => PLACEHOLDERS[name]} deed={t`Show these entries`} />
        <Verification />
      </Group>
      <DataTable
        label={t`Audit log`}
        columns={COLUMNS}
        {...paged}
        rowId={(entry) => String(entry.seq)}
        open={open}
        openId={openId}
        fill
        empty={
          filtered ? (
            <Empty title={t`No entry fits these filters`} why={t`In the range “${span}” nothing matches all of them. Take one away, or widen the range.`} />
          ) : (
            <Empty title={t`Nothing was changed in this range`} why={t`Each change of the configuration, of users and tokens, and each sign-in stands here. Older entries: widen the range.`} snippet="sluicegate audit export" />
          )
        }
      />
      <Outlet />
    </Page>
  );
}

const PLACEHOLDERS: Readonly<Record<FilterName, string>> = { actor: "user:admin", action: "update", kind: "route", name: "chat" };

const choice = (value: string): Choice => ({ value, label: value });
const ACTIONS = ["create", "update", "delete", "sign-in", "password", "rotate", "publish", "restore", "prune"].map(choice);
const KINDS = ["provider", "route", "team", "app", "key", "limit", "price", "interception rule", "denial", "discovery", "user", "token", "session", "version", "sealing key", "sign-on", "backup", "ledger"].map(choice);

const choicesOf = (name: FilterName): readonly Choice[] | undefined => (name === "action" ? ACTIONS : name === "kind" ? KINDS : undefined);

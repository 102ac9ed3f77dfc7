/** Who may not reach what in this host's kernel, or only so much of it, and how often each denial has refused. */
import { t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { Denial } from "@/api/model";
import { Tabs } from "@/features/discoveries/Tabs";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Until } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { Allowance } from "./Allowance";
import styles from "./denials.module.css";
import { denialsQuery } from "./queries";
import { DenialMark, whatOf, whoOf } from "./words";

const COLUMNS: readonly Column<Denial>[] = [
  {
    id: "who",
    header: t`Who`,
    cell: (denial) => (
      <Link to="/discoveries/denials/$name" params={{ name: denial.name }} search={(old) => old} title={denial.name}>
        {whoOf(denial)}
      </Link>
    ),
  },
  { id: "what", header: t`May not reach`, hide: "tablet", cell: (denial) => <span title={whatOf(denial)}>{whatOf(denial)}</span> },
  { id: "limit", header: t`Beyond`, hide: "phone", width: "290px", cell: (denial) => <Allowance denial={denial} /> },
  { id: "denied", header: t`Refused`, number: true, cell: (denial) => <Count n={denial.denied} unit={t`connections`} why={denial.reason ?? t`the kernel has not said yet`} /> },
  { id: "expires", header: t`Ends in`, hide: "tablet", cell: (denial) => (denial.expires_at ? <Until at={denial.expires_at} /> : <span className={styles.quiet}>{t`never`}</span>) },
  { id: "state", header: t`State`, cell: (denial) => <DenialMark denial={denial} /> },
];

export function DenialsPage() {
  const asked = useQuery(denialsQuery);
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((denial: Denial) => void navigate({ to: "/discoveries/denials/$name", params: { name: denial.name }, search: (old) => old }), [navigate]);
  return (
    <Page title={t`Denials`} line={t`Who may not reach what, or only so much of it, in this host's kernel.`} fill>
      <Tabs here="/discoveries/denials" />
      <DataTable
        label={t`Denials`}
        columns={COLUMNS}
        rows={asked.data}
        rowId={(denial) => denial.name}
        error={asked.error}
        again={() => void asked.refetch()}
        open={open}
        openId={openId}
        dense
        fill
        empty={
          <Empty
            title={t`Nobody is denied anything`}
            why={t`Denying a finding makes a denial, in force within a second. One by user, container or network, or one that lets only so much pass, is made by a command:`}
            snippet="sluicegate denials add --user batch --provider openai --connections 100 --per minute"
          />
        }
      />
      <Outlet />
    </Page>
  );
}

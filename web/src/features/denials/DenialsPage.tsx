/** Who may not reach what in this host's kernel, or only so much of it, and how often each denial has refused. */
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
    header: "Who",
    cell: (denial) => (
      <Link to="/discoveries/denials/$name" params={{ name: denial.name }} search={(old) => old} title={denial.name}>
        {whoOf(denial)}
      </Link>
    ),
  },
  { id: "what", header: "May not reach", hide: "tablet", cell: (denial) => <span title={whatOf(denial)}>{whatOf(denial)}</span> },
  { id: "limit", header: "Beyond", hide: "phone", width: "290px", cell: (denial) => <Allowance denial={denial} /> },
  { id: "denied", header: "Refused", number: true, cell: (denial) => <Count n={denial.denied} unit="connections" why={denial.reason ?? "the kernel has not said yet"} /> },
  { id: "expires", header: "Ends in", hide: "tablet", cell: (denial) => (denial.expires_at ? <Until at={denial.expires_at} /> : <span className={styles.quiet}>never</span>) },
  { id: "state", header: "State", cell: (denial) => <DenialMark denial={denial} /> },
];

export function DenialsPage() {
  const asked = useQuery(denialsQuery);
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((denial: Denial) => void navigate({ to: "/discoveries/denials/$name", params: { name: denial.name }, search: (old) => old }), [navigate]);
  return (
    <Page title="Denials" line="Who may not reach what, or only so much of it, in this host's kernel." fill>
      <Tabs here="/discoveries/denials" />
      <DataTable
        label="Denials"
        columns={COLUMNS}
        rows={asked.data}
        rowId={(denial) => denial.name}
        error={asked.data ? undefined : asked.error}
        again={() => void asked.refetch()}
        open={open}
        openId={openId}
        dense
        fill
        empty={
          <Empty
            title="Nobody is denied anything"
            why="Denying a finding makes a denial, in force within a second. One by user, container or network, or one that lets only so much pass, is made by a command:"
            snippet="sluicegate denials add --user batch --provider openai --connections 100 --per minute"
          />
        }
      />
      <Outlet />
    </Page>
  );
}

/** Requests for access: what needs a decision, what was decided, by whom and until when. */
import { t } from "@lingui/core/macro";
import { Button, SegmentedControl } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import type { AccessRequest } from "@/api/model";
import { sessionQuery, useMay } from "@/api/session";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, Unknown, When } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { usePaged } from "@/ui/usePaged";
import styles from "./access.module.css";
import { AccessTabs } from "./AccessTabs";
import { requestFilters } from "./filters";
import { requestsQuery } from "./queries";
import { RequestForm } from "./RequestForm";
import { nameOf, State } from "./words";

export function AccessRequestsPage() {
  const may = useMay();
  const team = useQuery(sessionQuery).data?.team ?? null;
  const { state } = useSearch({ from: "/frame/access-requests" });
  const navigate = useNavigate();
  const [asking, setAsking] = useState(false);
  const openId = useParams({ strict: false, select: (params) => params.id });
  const paged = usePaged(useInfiniteQuery(requestsQuery(state)));
  const open = useCallback((request: AccessRequest) => void navigate({ to: "/access-requests/$id", params: { id: String(request.id) }, search: requestFilters }), [navigate]);
  const choose = (chosen: string): void => void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, state: chosen === "all" ? undefined : chosen }), replace: true });
  const columns = useMemo(() => (team === null ? COLUMNS : COLUMNS.filter((column) => column.id !== "team")), [team]);
  const button = may("access:request") ? (
    <Button variant={may("access:decide") ? "default" : "filled"} onClick={() => setAsking(true)}>
      {t`Ask for access`}
    </Button>
  ) : null;
  return (
    <Page title={t`Access requests`} line={team === null ? t`Which apps ask to call which services, who decided, and until when it holds.` : t`What apps of ${team} asked to call, who decided, and until when it holds.`} action={button} fill>
      <AccessTabs here="/access-requests" />
      <SegmentedControl
        className={styles.states ?? ""}
        size="xs"
        aria-label={t`Which requests`}
        data={[
          { value: "all", label: t`All` },
          { value: "pending", label: t`To decide` },
          { value: "approved", label: t`Approved` },
          { value: "denied", label: t`Denied` },
        ]}
        value={state ?? "all"}
        onChange={choose}
      />
      <DataTable
        label={t`Access requests`}
        columns={columns}
        {...paged}
        rowId={(request) => String(request.id)}
        open={open}
        openId={openId}
        fill
        empty={
          state === "pending" ? (
            <Empty title={t`Nothing to decide`} why={t`Requests that await a decision stand here, and their number in the navigation.`} />
          ) : (
            <Empty title={t`No requests`} why={t`Teams find services in the catalogue and ask that an app may call them. What is open to all is approved at once.`} action={button} snippet={example} />
          )
        }
      />
      {asking ? <RequestForm routes={[]} close={() => setAsking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

const COLUMNS: readonly Column<AccessRequest>[] = [
  {
    id: "app",
    header: t`App`,
    cell: (request) => (
      <Link to="/access-requests/$id" params={{ id: String(request.id) }} search={requestFilters}>
        {request.app}
      </Link>
    ),
  },
  { id: "team", header: t`Team`, hide: "phone", cell: (request) => request.team },
  { id: "routes", header: t`Asks to call`, cell: (request) => <code>{request.routes.join(", ")}</code> },
  { id: "state", header: t`State`, width: "170px", cell: (request) => <State request={request} /> },
  { id: "until", header: t`Until`, hide: "tablet", width: "130px", cell: (request) => until(request) },
  { id: "by", header: t`Asked by`, hide: "tablet", width: "130px", cell: (request) => nameOf(request.requested_by) },
  { id: "at", header: t`Asked`, hide: "phone", width: "110px", cell: (request) => <Ago at={request.created_at} /> },
];

function until(request: AccessRequest) {
  const at = request.state === "pending" ? request.asked_until : request.expires_at;
  if (at) return <When at={at} />;
  return request.state === "pending" || request.state === "approved" ? t`for good` : <Unknown why={t`access was not given, or was for good`} />;
}

const example = `curl $GATEWAY/api/v1/access-requests -H "Authorization: Bearer $TOKEN" \\
  -H "Content-Type: application/json" \\
  -d '{"app": "indexer", "routes": ["chat"], "reason": "Search answers"}'`;

/** Who talks to an AI provider past the gateway, on what evidence, and what was decided about it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import type { Discovery } from "@/api/model";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, Count } from "@/ui/Figure";
import { FilterBar, type Choice } from "@/ui/FilterBar";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { Page } from "@/ui/Page";
import { usePaged } from "@/ui/usePaged";
import { bytes, exact } from "@/units/count";
import { plain, sentence } from "@/units/words";
import styles from "./discoveries.module.css";
import { discoveryFilters, FILTER_LABELS, type FilterName } from "./filters";
import { discoveriesQuery } from "./queries";
import { Tabs } from "./Tabs";
import { evidenceOf, StateMark, STATE_CHOICES, stateWord, whoOf } from "./words";

const COLUMNS: readonly Column<Discovery>[] = [
  {
    id: "who",
    header: t`Who`,
    cell: (found) => (
      <>
        <Link to="/discoveries/$id" params={{ id: String(found.id) }} search={(old) => old} title={found.executable ?? undefined}>
          {whoOf(found)}
        </Link>
        <Owner found={found} />
      </>
    ),
  },
  { id: "provider", header: t`Provider`, cell: (found) => found.provider },
  { id: "host", header: t`Host`, hide: "tablet", cell: (found) => <code className={styles.host} title={found.host}>{found.host}</code> },
  { id: "evidence", header: t`Evidence`, hide: "tablet", cell: (found) => <span title={evidenceOf(found.evidence).meaning}>{evidenceOf(found.evidence).word}</span> },
  { id: "first", header: t`First seen`, hide: "tablet", cell: (found) => <Ago at={found.first_seen} /> },
  { id: "last", header: t`Last seen`, hide: "phone", cell: (found) => <Ago at={found.last_seen} /> },
  { id: "connections", header: t`Connections`, number: true, hide: "phone", cell: (found) => <Count n={found.connections} unit={t`connections`} /> },
  { id: "bytes", header: t`Bytes`, number: true, hide: "phone", cell: (found) => <span title={t`${exact(found.bytes)} bytes, both ways`}>{bytes(found.bytes)}</span> },
  { id: "state", header: t`State`, cell: (found) => <StateMark found={found} /> },
];

/** Of whom, beside the program's name. */
function Owner({ found }: { found: Discovery }) {
  const owners = [found.user && whoOf(found) !== found.user ? found.user : null, found.container && t`in ${found.container}`].filter(Boolean);
  return owners.length > 0 ? <span className={styles.owner}> {owners.join(" ")}</span> : null;
}

export function DiscoveriesPage() {
  const search = useSearch({ from: "/frame/discoveries" });
  const wanted = useMemo(() => discoveryFilters(search), [search]);
  const openId = useParams({ strict: false, select: (params) => params.id });
  const navigate = useNavigate();
  const pages = useInfiniteQuery(discoveriesQuery(wanted));
  const paged = usePaged(pages);
  const reason = pages.data?.pages[0]?.reason ?? null;
  const open = useCallback((found: Discovery) => void navigate({ to: "/discoveries/$id", params: { id: String(found.id) }, search: (old) => old }), [navigate]);
  const filtered = Object.keys(wanted).length > 0;
  const nothingYet = paged.rows?.length === 0 && !filtered;

  return (
    <Page title={t`Discovery`} line={t`Who talks to an AI provider past the gateway.`} fill action={reason === null && pages.data ? <Mark tone="ok">{t`Probes are looking`}</Mark> : null}>
      <Tabs here="/discoveries" />
      {reason !== null && !nothingYet ? (
        <Notice title={t`Nothing new is found at present`} snippet="sluicegate doctor">
          <p>
            <Trans>{sentence(plain(reason))}. What stands here was found before.</Trans>
          </p>
        </Notice>
      ) : null}
      {nothingYet ? null : (
        <FilterBar labels={FILTER_LABELS} filters={wanted} useChoices={useChoices} word={(name, value) => (name === "state" ? stateWord(value) : value)} placeholder={(name) => EXAMPLES[name]} deed={t`Show these findings`} />
      )}
      <DataTable
        label={t`Findings`}
        columns={COLUMNS}
        {...paged}
        rowId={(found) => String(found.id)}
        open={open}
        openId={openId}
        dense
        fill
        empty={
          filtered ? (
            <Empty title={t`No finding fits these filters`} why={t`Nothing matches all of them. Take one away.`} />
          ) : reason === null ? (
            <Empty title={t`Nobody goes past the gateway`} why={t`The probes are looking. A process, a container or a forwarded client that talks to an AI provider directly shows here within two seconds.`} />
          ) : (
            <Empty
              title={t`Nothing can be found yet`}
              why={
                reason.startsWith("the ")
                  ? t`Findings come from the agent's probes, and ${plain(reason)}. This says what is missing on this host, and how to get it:`
                  : t`Findings come from the agent's probes, and none are at work: ${plain(reason)}. This says what is missing on this host, and how to get it:`
              }
              snippet="sluicegate doctor"
            />
          )
        }
      />
      <Outlet />
    </Page>
  );
}

const EXAMPLES: Readonly<Record<FilterName, string>> = { state: "", provider: "openai", process: "python3", user: "www-data", container: "web" };

const useChoices = (name: FilterName): readonly Choice[] | undefined => (name === "state" ? STATE_CHOICES : undefined);

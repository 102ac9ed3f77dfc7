/** Who calls what, by which way, and what goes past: from processes to providers. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useMediaQuery } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { useRange } from "@/app/range";
import { useFeed } from "@/api/live";
import { useMay } from "@/api/session";
import { Empty, Problem } from "@/ui/Answer";
import { FilterBar } from "@/ui/FilterBar";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { useNow } from "@/ui/now";
import { Page } from "@/ui/Page";
import { age } from "@/units/time";
import { plain, sentence } from "@/units/words";
import { FlowTable } from "./FlowTable";
import styles from "./flows.module.css";
import { graphOf } from "./graph";
import { Legend } from "./Legend";
import { flowsQuery } from "./queries";
import { Ranked } from "./Ranked";
import { Sankey } from "./Sankey";
import { filterLabels, filtersOf, MEASURES, measureName, MOST_SHOWN, SHOWN, type FlowFilters, type FlowSearch, type Measure } from "./search";
import { amountExact, callsOrConnections, unknownPast } from "./words";

const NARROW = "(max-width: 760px)";

export function FlowsPage() {
  const search: FlowSearch = useSearch({ from: "/frame/flows" });
  const range = useRange();
  const navigate = useNavigate();
  const narrow = useMediaQuery(NARROW) ?? false;
  const filters = useMemo(() => filtersOf(search), [search]);
  const measure = search.measure ?? "tokens";
  const shown = search.show ?? SHOWN;
  const asked = useQuery(flowsQuery(filters, measure, range));
  const flows = asked.data;
  const graph = useMemo(() => flows && graphOf(flows, measure, shown), [flows, measure, shown]);

  const set = useCallback((change: (old: FlowSearch) => FlowSearch) => void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, ...change(old as FlowSearch) }) }), [navigate]);
  const choose = useCallback(
    (filter: FlowFilters) =>
      set((old) => {
        const there = Object.entries(filter).every(([name, value]) => old[name as keyof FlowFilters] === value);
        return there ? Object.fromEntries(Object.keys(filter).map((name) => [name, undefined])) : filter;
      }),
    [set],
  );
  const unfold = useCallback(() => set((old) => ({ show: Math.min(MOST_SHOWN, (old.show ?? SHOWN) * 2) })), [set]);

  const filtered = Object.keys(filters).length > 0;
  const nothing = flows?.paths.length === 0 && flows.past.length === 0;
  return (
    <Page
      title={t`Flows`}
      line={t`Who calls what, by which way, and what goes past the gateway.`}
      action={
        <SegmentedControl
          size="xs"
          aria-label={t`View`}
          value={search.view ?? "picture"}
          onChange={(view) => set(() => ({ view: view === "table" ? "table" : undefined }))}
          data={[
            { value: "picture", label: t`Picture` },
            { value: "table", label: t`Table` },
          ]}
        />
      }
    >
      <div className={styles.tools}>
        <SegmentedControl
          size="xs"
          aria-label={t`Width by`}
          value={measure}
          onChange={(chosen) => set(() => ({ measure: chosen === "tokens" ? undefined : (chosen as Measure) }))}
          data={MEASURES.map((each) => ({ value: each, label: measureName(each) }))}
        />
        <FilterBar labels={filterLabels()} filters={filters} useChoices={noChoices} word={(_name, value) => (value === "" ? t`none` : value)} placeholder={(name) => PLACEHOLDERS[name] ?? ""} deed={t`Show only these`} />
        <span className={styles.room} />
        <Age updatedMs={asked.dataUpdatedAt} failed={asked.error !== null} />
      </div>
      {asked.error ? <Problem error={asked.error} again={() => void asked.refetch()} /> : null}
      {flows?.kernel ? <Missing reason={flows.kernel} /> : null}
      {graph === undefined && !asked.error ? <Skeleton height={520} radius={8} /> : null}
      {nothing ? (
        filtered ? (
          <Empty title={t`Nothing flows this way`} why={t`No request of this time fits all of these filters. Take one away, or widen the range.`} />
        ) : (
          <Empty
            title={t`Nothing flows yet`}
            why={t`Each request shows here as a stream from who made it to the provider that answered. None was made in this range; the demo makes some with a small model on this machine.`}
            snippet="sluicegate demo"
          />
        )
      ) : null}
      {flows && graph && !nothing ? (
        <div data-stale={asked.isPlaceholderData || undefined} className={styles.body}>
          <p className={styles.sum}>
            <Trans>
              <b>{graph.total > 0 ? amountExact(graph.total, measure) : measure === "bytes" ? t`Bytes are not measured` : t`Nothing`}</b> through the gateway
            </Trans>
            {graph.pastTotal !== null ? (
              <Trans>
                , <b>{measure === "requests" ? callsOrConnections(graph.pastTotal) : amountExact(graph.pastTotal, measure)}</b> past it
              </Trans>
            ) : flows.past.some((each) => each.state !== "deny") ? (
              unknownPast(measure)
            ) : (
              ""
            )}
            {flows.others
              ? t`; ${plural(flows.others.paths, { one: "# small path", other: "# small paths" })} with ${plural(flows.others.requests, { one: "# request", other: "# requests" })} are not drawn`
              : ""}
          </p>
          {search.view === "table" ? (
            <FlowTable paths={flows.paths} />
          ) : narrow ? (
            <Ranked graph={graph} measure={measure} choose={choose} unfold={unfold} />
          ) : (
            <Sankey graph={graph} measure={measure} filters={filters} choose={choose} unfold={unfold} />
          )}
          <Legend past={flows.past.length > 0} />
          <Onward filters={filters} />
        </div>
      ) : null}
    </Page>
  );
}

const PLACEHOLDERS: Record<string, string> = { process: "python3", user: "mia", container: "web", target: "openai/gpt-5-mini", provider: "openai" };
const noChoices = (): undefined => undefined;

/** Where the same may be looked at in other ways. */
function Onward({ filters }: { filters: FlowFilters }) {
  const may = useMay();
  const { process, route, app, provider, ...rest } = filters;
  return (
    <nav className={styles.onward} aria-label={t`The same elsewhere`}>
      <Link to="/requests" search={(old) => ({ ...old, ...Object.fromEntries(Object.entries({ ...rest, process, route, app, provider }).filter(([, value]) => value)) })}>
        {Object.keys(filters).length > 0 ? t`These requests in Traffic` : t`All requests in Traffic`}
      </Link>
      {route ? <Link to="/routes/$name" params={{ name: route }}>{t`Route ${route}`}</Link> : null}
      {app ? <Link to="/apps/$name" params={{ name: app }}>{t`App ${app}`}</Link> : null}
      {provider && may("configuration:read") ? <Link to="/providers/$name" params={{ name: provider }}>{t`Provider ${provider}`}</Link> : null}
      {may("configuration:read") ? <Link to="/discoveries" search={(old) => ({ ...old, ...(process ? { process } : {}), ...(provider ? { provider } : {}) })}>{t`Who goes past`}</Link> : null}
    </nav>
  );
}

function Missing({ reason }: { reason: string }) {
  return (
    <Notice title={t`The kernel is not looked at, so a part of the picture is missing`} snippet="sluicegate doctor">
      <p>
        <Trans>{sentence(plain(reason))}. Processes stand as the keys that they show; bytes, and what goes past the gateway, are not known. The doctor says what this host lacks.</Trans>
      </p>
    </Notice>
  );
}

const LATE_S = 40;

function Age({ updatedMs, failed }: { updatedMs: number; failed: boolean }) {
  const nowMs = useNow();
  const feed = useFeed();
  if (updatedMs === 0) return null;
  if (failed || (nowMs - updatedMs) / 1000 > LATE_S) return <Mark tone="warn">{t`as of ${age(updatedMs, nowMs)}`}</Mark>;
  return <span className={styles.age}>{feed.state === "cut" ? t`feed cut · as of ${age(updatedMs, nowMs)}` : t`as of ${age(updatedMs, nowMs)}`}</span>;
}

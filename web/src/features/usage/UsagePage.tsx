/** What a team's apps have used, what it cost, what went wrong, and how far its budgets are. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useMemo } from "react";
import { RANGES, useRange } from "@/app/range";
import type { UsageItem } from "@/api/model";
import { sessionQuery } from "@/api/session";
import { Deliveries, NoticeTitle } from "@/features/access/Notices";
import { noticesQuery } from "@/features/access/queries";
import { LimitRow } from "@/features/limits/LimitRow";
import limitStyles from "@/features/limits/limits.module.css";
import { limitsQuery } from "@/features/limits/queries";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { bucketOf, sparkOf, sumOf, timeline } from "@/features/overview/sums";
import { Empty, Problem } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Unknown, When } from "@/ui/Figure";
import { Page, Section } from "@/ui/Page";
import { Change, Stat, Stats } from "@/ui/Stat";
import { share } from "@/units/count";
import { ContactPart } from "./ContactPart";
import styles from "./usage.module.css";

const NOTICES = 6;

export function UsagePage() {
  const range = useRange();
  const team = useQuery(sessionQuery).data?.team ?? null;
  const usage = useQuery(usageQuery("app,route", range));
  const span = RANGES[range].label.toLowerCase();
  return (
    <Page title={t`Usage`} line={team === null ? t`What each app has used of each service, and what it cost.` : t`What apps of ${team} have used of each service, what it cost, and how far budgets are.`}>
      <Numbers />
      <Section title={t`By app and service`}>
        <DataTable
          label={t`Usage by app and service`}
          columns={COLUMNS}
          rows={usage.data}
          rowId={(item) => `${item.app} ${item.route}`}
          error={usage.error}
          again={() => void usage.refetch()}
          empty={<Empty title={t`No calls`} why={t`In the range “${span}” no app of yours has called the gateway. The catalogue has code that does.`} action={<Link to="/catalogue">{t`Go to the catalogue`}</Link>} />}
        />
      </Section>
      <div className={styles.columns}>
        <Budgets />
        <Newest />
      </div>
      {team === null ? null : <ContactPart team={team} />}
    </Page>
  );
}

function Numbers() {
  const range = useRange();
  const asked = useQuery(usageQuery(`${bucketOf(range)},route`, range));
  const usage = asked.data;
  const none = asked.error ? <Unknown why={asked.error.message} /> : undefined;
  const before = useQuery(usageQuery("route", range, 1)).data;
  const now = usage && sumOf(usage);
  const past = before && sumOf(before);
  const spark = useMemo(() => usage && sparkOf(timeline(usage, range, "spend", Date.now())), [usage, range]);
  return (
    <Stats>
      <Stat name={t`Spend`} value={now ? <Spend of={{ cost_usd_micros: now.costMicros, unpriced: now.unpriced }} why="" /> : none} note={now && past && <Change now={now.costMicros} before={past.costMicros} />} {...(spark ? { spark } : {})} />
      <Stat name={t`Tokens`} value={now ? <Count n={now.tokens} unit={t`tokens`} /> : none} note={now && past && <Change now={now.tokens} before={past.tokens} />} />
      <Stat name={t`Requests`} value={now ? <Count n={now.requests} unit={t`requests`} /> : none} note={now && past && <Change now={now.requests} before={past.requests} />} />
      <Stat
        name={t`Errors`}
        value={now ? (now.requests === 0 ? "—" : share(now.errors / now.requests)) : none}
        note={now && (now.requests === 0 ? t`no requests in this range` : <Link to="/requests">{t`See the requests`}</Link>)}
      />
    </Stats>
  );
}

const COLUMNS: readonly Column<UsageItem>[] = [
  { id: "app", header: t`App`, sortBy: (item) => item.app ?? "", cell: (item) => (item.app ? <Link to="/apps/$name" params={{ name: item.app }}>{item.app}</Link> : "—") },
  { id: "route", header: t`Service`, sortBy: (item) => item.route ?? "", cell: (item) => (item.route ? <Link to="/catalogue/$name" params={{ name: item.route }}>{item.route}</Link> : <span className={styles.quiet}>{t`none was found`}</span>) },
  { id: "requests", header: t`Requests`, number: true, sortBy: (item) => item.requests, cell: (item) => <Count n={item.requests} unit={t`requests`} /> },
  { id: "errors", header: t`Errors`, number: true, hide: "phone", sortBy: (item) => item.errors, cell: (item) => <Count n={item.errors} unit={t`requests`} /> },
  { id: "tokens", header: t`Tokens`, number: true, hide: "phone", sortBy: (item) => item.input_tokens + item.output_tokens, cell: (item) => <Count n={item.input_tokens + item.output_tokens} unit={t`tokens`} /> },
  { id: "spend", header: t`Spend`, number: true, sortBy: (item) => item.cost_usd_micros, cell: (item) => <Spend of={item} why="" /> },
];

function Budgets() {
  const limits = useQuery(limitsQuery);
  return (
    <Section title={t`Budgets and limits`}>
      {limits.error ? <Problem error={limits.error} again={() => void limits.refetch()} /> : null}
      {limits.isPending ? <Skeleton height={120} radius={8} /> : null}
      {limits.data?.length === 0 ? <p className={styles.quiet}>{t`No limit names your team or its apps. Those of a service stand in the catalogue.`}</p> : null}
      {limits.data && limits.data.length > 0 ? (
        <ul className={limitStyles.limits} aria-label={t`Budgets and limits`}>
          {limits.data.map((limit) => (
            <LimitRow key={limit.id} limit={limit} />
          ))}
        </ul>
      ) : null}
    </Section>
  );
}

function Newest() {
  const pages = useInfiniteQuery(noticesQuery);
  const newest = pages.data?.pages[0]?.items.slice(0, NOTICES);
  return (
    <Section title={t`Notices`} aside={<Link to="/access-requests/notices">{t`All notices`}</Link>}>
      {pages.error ? <Problem error={pages.error} again={() => void pages.refetch()} /> : null}
      {newest?.length === 0 ? (
        <p className={styles.quiet}>
          <Trans>Nothing yet. You are told when a budget reaches 50, 80 or 100 %, and when access is decided.</Trans>
        </p>
      ) : null}
      <ul className={styles.notices} aria-label={t`Newest notices`}>
        {newest?.map((notice) => (
          <li key={notice.id}>
            <NoticeTitle notice={notice} />
            <span className={styles.facts}>
              <When at={notice.at} /> {notice.deliveries.length > 0 ? <Deliveries notice={notice} /> : null}
            </span>
          </li>
        ))}
      </ul>
    </Section>
  );
}

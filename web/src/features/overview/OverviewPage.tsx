/** Is everything well, what does it cost, and what needs you. */
import { plural, t } from "@lingui/core/macro";
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { lazy, Suspense, useMemo, useState } from "react";
import { useRange, type RangeName } from "@/app/range";
import type { Need, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { appsQuery } from "@/features/apps/queries";
import { routesQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Count, Latency, Unknown } from "@/ui/Figure";
import { Page, Section } from "@/ui/Page";
import { Change, Stat, Stats } from "@/ui/Stat";
import { count, share } from "@/units/count";
import { money, moneyOnAxis } from "@/units/money";
import { AtTheGate } from "./AtTheGate";
import { Budgets } from "./Budgets";
import { FirstSteps } from "./FirstSteps";
import styles from "./overview.module.css";
import { Needs } from "./Needs";
import { NoRequests } from "./NoRequests";
import { Providers } from "./Providers";
import { firstTokensQuery, overviewQuery, usageQuery } from "./queries";
import { Spend } from "./Spend";
import { bucketOf, sparkOf, sumOf, timeline, type Measure } from "./sums";
import { TopApps } from "./TopApps";

// Not before there is something to draw: who is led on to the first steps never needs it.
const TimeChart = lazy(() => import("@/ui/TimeChart").then(({ TimeChart }) => ({ default: TimeChart })));

const FORMATS = {
  spend: { format: money, formatAxis: moneyOnAxis },
  tokens: { format: count, formatAxis: count },
  requests: { format: count, formatAxis: count },
} as const;

export function OverviewPage() {
  const range = useRange();
  const may = useMay();
  const usage = useQuery(usageQuery(`${bucketOf(range)},route`, range));
  const before = useQuery(usageQuery("route", range, 1));
  const standing = useQuery(overviewQuery);
  const needs = standing.data?.needs ?? NONE;
  const quiet = usage.data?.length === 0;
  const setUp = useSetUp(quiet);

  if (quiet && setUp.missing !== null) {
    return (
      <Page title={t`Overview`} line={LINE}>
        {setUp.missing !== undefined ? <FirstSteps fresh={setUp.missing === "all"} /> : setUp.error ? <Problem error={setUp.error} again={setUp.again} /> : <Skeleton height={420} radius={8} />}
      </Page>
    );
  }
  return (
    <Page title={t`Overview`} line={LINE}>
      <Numbers usage={usage.data} before={before.data} failed={usage.data ? null : usage.error} range={range} />
      <div className={styles.wide}>
        {usage.error && !usage.data ? <Problem error={usage.error} again={() => void usage.refetch()} /> : quiet ? <NoRequests range={range} route={setUp.route} /> : <Timelines usage={usage.data} range={range} updatedMs={usage.dataUpdatedAt} />}
        {standing.data ? <Needs needs={needs} /> : standing.error ? <Problem error={standing.error} again={() => void standing.refetch()} /> : <Skeleton height={284} radius={8} />}
      </div>
      <div className={styles.columns}>
        <Budgets limits={standing.data?.limits} failed={standing.error} />
        {may("configuration:read") ? <Providers range={range} needs={needs} /> : null}
      </div>
      <div className={standing.data?.gate ? styles.wide : ""}>
        <TopApps range={range} />
        {standing.data?.gate ? <AtTheGate gate={standing.data.gate} /> : null}
      </div>
    </Page>
  );
}

const LINE = t`Is everything well, what does it cost, and what needs you.`;
const NONE: readonly Need[] = [];

interface SetUp {
  /** What there has to be before anybody can call; null: nothing; undefined: not (yet) known. */
  missing: "all" | "some" | null | undefined;
  /** One that can be called by its name. */
  route: string;
  error: Error | null;
  again: () => void;
}

function useSetUp(enabled: boolean): SetUp {
  const routes = useQuery({ ...routesQuery, enabled });
  const apps = useQuery({ ...appsQuery, enabled });
  const route = routes.data?.find((each) => each.match === null)?.name;
  const known = routes.data !== undefined && apps.data !== undefined;
  return {
    missing: !known ? undefined : routes.data.length + apps.data.length === 0 ? "all" : route === undefined || apps.data.length === 0 ? "some" : null,
    route: route ?? "",
    error: routes.error ?? apps.error,
    again: () => void Promise.all([routes.refetch(), apps.refetch()]),
  };
}

interface NumbersProps {
  usage: readonly UsageItem[] | undefined;
  before: readonly UsageItem[] | undefined;
  /** Why there is no `usage`, and will be none. */
  failed: Error | null;
  range: RangeName;
}

function Numbers({ usage, before, failed: why, range }: NumbersProps) {
  const now = usage && sumOf(usage);
  const past = before && sumOf(before);
  const firstAsked = useQuery(firstTokensQuery("", range));
  const first = firstAsked.data;
  const none = why ? <Unknown why={why.message} /> : undefined;
  const firstBefore = useQuery(firstTokensQuery("", range, 1)).data?.[0];
  const spark = useMemo(() => usage && sparkOf(timeline(usage, range, "spend", Date.now())), [usage, range]);
  const failed = now && now.requests > 0 ? now.errors / now.requests : undefined;
  const failedBefore = past && past.requests > 0 ? past.errors / past.requests : undefined;
  return (
    <Stats>
      <Stat
        name={t`Spend`}
        value={now ? <Spend of={{ cost_usd_micros: now.costMicros, unpriced: now.unpriced }} why="" /> : none}
        note={
          now && now.unpriced > 0 ? (
            plural(now.unpriced, { one: "# request without a price", other: "# requests without a price" })
          ) : (
            now && past && <Change now={now.costMicros} before={past.costMicros} />
          )
        }
        {...(spark && now && now.costMicros > 0 ? { spark } : {})}
      />
      <Stat name={t`Tokens`} value={now ? <Count n={now.tokens} unit={t`tokens`} /> : none} note={now && past && <Change now={now.tokens} before={past.tokens} />} />
      <Stat name={t`Requests`} value={now ? <Count n={now.requests} unit={t`requests`} /> : none} note={now && past && <Change now={now.requests} before={past.requests} />} />
      <Stat
        name={t`Errors`}
        value={now ? failed === undefined ? "—" : <span title={plural(now.errors, { one: "# request refused, failed or interrupted", other: "# requests refused, failed or interrupted" })}>{share(failed)}</span> : none}
        note={now && (failedBefore === undefined ? plural(now.errors, { one: "# request", other: "# requests" }) : t`${share(failedBefore)} in the range before`)}
      />
      <Stat
        name={t`First token, p95`}
        value={first ? <Latency ms={first[0]?.p95} why={t`no answer with a first token in this range`} /> : firstAsked.error ? <Unknown why={firstAsked.error.message} /> : undefined}
        note={first && (first[0] ? firstBefore ? <Change now={first[0].p95} before={firstBefore.p95} /> : plural(first[0].count, { one: "of # answer", other: "of all # answers" }) : t`no answers in this range`)}
      />
    </Stats>
  );
}

function Timelines({ usage, range, updatedMs }: { usage: readonly UsageItem[] | undefined; range: RangeName; updatedMs: number }) {
  const [chosen, setMeasure] = useState<Measure>();
  // Where no price is known there is no spend to draw.
  const unpriced = usage?.every((item) => item.cost_usd_micros === 0) && usage.some((item) => item.unpriced > 0);
  const measure = chosen ?? (unpriced ? "tokens" : "spend");
  const line = useMemo(() => usage && timeline(usage, range, measure, updatedMs), [usage, range, measure, updatedMs]);
  const empty = <Skeleton height={284} radius={8} />;
  const titles = { spend: t`Spend by route over time`, tokens: t`Tokens by route over time`, requests: t`Requests by route over time` };
  return (
    <Section
      title={bucketOf(range) === "day" ? t`By route, each day (UTC)` : t`By route, each hour`}
      aside={
        <SegmentedControl
          size="xs"
          aria-label={t`Measure`}
          value={measure}
          onChange={(wanted) => setMeasure(wanted as Measure)}
          data={[
            { value: "spend", label: t`Spend` },
            { value: "tokens", label: t`Tokens` },
            { value: "requests", label: t`Requests` },
          ]}
        />
      }
    >
      <Suspense fallback={empty}>
        {line ? <TimeChart label={titles[measure]} times={line.times} bucketS={line.bucketS} series={line.series} {...FORMATS[measure]} /> : empty}
      </Suspense>
    </Section>
  );
}

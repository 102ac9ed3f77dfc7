/** Is everything well, what does it cost, and what needs you. */
import { plural, t } from "@lingui/core/macro";
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useRange, type RangeName } from "@/app/range";
import type { Need, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Count, Latency } from "@/ui/Figure";
import { Page, Section } from "@/ui/Page";
import { Change, Stat, Stats } from "@/ui/Stat";
import { TimeChart } from "@/ui/TimeChart";
import { count, share } from "@/units/count";
import { money, moneyOnAxis } from "@/units/money";
import { AtTheGate } from "./AtTheGate";
import { Budgets } from "./Budgets";
import { FirstSteps } from "./FirstSteps";
import styles from "./overview.module.css";
import { Needs } from "./Needs";
import { Providers } from "./Providers";
import { firstTokensQuery, overviewQuery, usageQuery } from "./queries";
import { Spend } from "./Spend";
import { bucketOf, sparkOf, sumOf, timeline, type Measure } from "./sums";
import { TopApps } from "./TopApps";

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

  if (usage.data?.length === 0) return <FirstSteps range={range} />;
  return (
    <Page title={t`Overview`} line={t`Is everything well, what does it cost, and what needs you.`}>
      {usage.error ? <Problem error={usage.error} again={() => void usage.refetch()} /> : null}
      <Numbers usage={usage.data} before={before.data} range={range} />
      <div className={styles.wide}>
        <Timelines usage={usage.data} range={range} updatedMs={usage.dataUpdatedAt} />
        {standing.error ? <Problem error={standing.error} again={() => void standing.refetch()} /> : standing.data ? <Needs needs={needs} /> : <Skeleton height={284} radius={8} />}
      </div>
      <div className={styles.columns}>
        <Budgets limits={standing.data?.limits} />
        {may("configuration:read") ? <Providers range={range} needs={needs} /> : null}
      </div>
      <div className={standing.data?.gate ? styles.wide : ""}>
        <TopApps range={range} />
        {standing.data?.gate ? <AtTheGate gate={standing.data.gate} /> : null}
      </div>
    </Page>
  );
}

const NONE: readonly Need[] = [];

interface NumbersProps {
  usage: readonly UsageItem[] | undefined;
  before: readonly UsageItem[] | undefined;
  range: RangeName;
}

function Numbers({ usage, before, range }: NumbersProps) {
  const now = usage && sumOf(usage);
  const past = before && sumOf(before);
  const first = useQuery(firstTokensQuery("", range)).data;
  const firstBefore = useQuery(firstTokensQuery("", range, 1)).data?.[0];
  const spark = useMemo(() => usage && sparkOf(timeline(usage, range, "spend", Date.now())), [usage, range]);
  const failed = now && now.requests > 0 ? now.errors / now.requests : undefined;
  const failedBefore = past && past.requests > 0 ? past.errors / past.requests : undefined;
  return (
    <Stats>
      <Stat
        name={t`Spend`}
        value={now && <Spend of={{ cost_usd_micros: now.costMicros, unpriced: now.unpriced }} why="" />}
        note={
          now && now.unpriced > 0 ? (
            plural(now.unpriced, { one: "and # request without a known price", other: "and # requests without a known price" })
          ) : (
            now && <Change now={now.costMicros} before={past?.costMicros} />
          )
        }
        {...(spark ? { spark } : {})}
      />
      <Stat name={t`Tokens`} value={now && <Count n={now.tokens} unit={t`tokens`} />} note={now && <Change now={now.tokens} before={past?.tokens} />} />
      <Stat name={t`Requests`} value={now && <Count n={now.requests} unit={t`requests`} />} note={now && <Change now={now.requests} before={past?.requests} />} />
      <Stat
        name={t`Errors`}
        value={now && (failed === undefined ? "—" : <span title={plural(now.errors, { one: "# request refused, failed or interrupted", other: "# requests refused, failed or interrupted" })}>{share(failed)}</span>)}
        note={now && (failedBefore === undefined ? plural(now.errors, { one: "# request", other: "# requests" }) : t`${share(failedBefore)} in the range before`)}
      />
      <Stat
        name={t`First token, p95`}
        value={first && <Latency ms={first[0]?.p95} why={t`no answer with a first token in this range`} />}
        note={first && (first[0] ? firstBefore ? <Change now={first[0].p95} before={firstBefore.p95} /> : plural(first[0].count, { one: "of # answer", other: "of all # answers" }) : t`no answers in this range`)}
      />
    </Stats>
  );
}

function Timelines({ usage, range, updatedMs }: { usage: readonly UsageItem[] | undefined; range: RangeName; updatedMs: number }) {
  const [measure, setMeasure] = useState<Measure>("spend");
  const line = useMemo(() => usage && timeline(usage, range, measure, updatedMs), [usage, range, measure, updatedMs]);
  const titles = { spend: t`Spend by route over time`, tokens: t`Tokens by route over time`, requests: t`Requests by route over time` };
  return (
    <Section
      title={bucketOf(range) === "day" ? t`By route, each day (UTC)` : t`By route, each hour`}
      aside={
        <SegmentedControl
          size="xs"
          aria-label={t`Measure`}
          value={measure}
          onChange={(chosen) => setMeasure(chosen as Measure)}
          data={[
            { value: "spend", label: t`Spend` },
            { value: "tokens", label: t`Tokens` },
            { value: "requests", label: t`Requests` },
          ]}
        />
      }
    >
      {line ? (
        <TimeChart label={titles[measure]} times={line.times} bucketS={line.bucketS} series={line.series} {...FORMATS[measure]} />
      ) : (
        <Skeleton height={284} radius={8} />
      )}
    </Section>
  );
}

/** Is everything well, what does it cost, and which budget needs a look. */
import { plural, t } from "@lingui/core/macro";
import { SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { useRange, type RangeName } from "@/app/range";
import type { LedgerRow, UsageItem } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Count, Latency } from "@/ui/Figure";
import { Page, Section } from "@/ui/Page";
import { Change, Stat, Stats } from "@/ui/Stat";
import { TimeChart } from "@/ui/TimeChart";
import { count, share } from "@/units/count";
import { money, moneyOnAxis } from "@/units/money";
import { Budgets } from "./Budgets";
import { FirstSteps } from "./FirstSteps";
import styles from "./overview.module.css";
import { Providers } from "./Providers";
import { sampleQuery, usageQuery } from "./queries";
import { Spend } from "./Spend";
import { bucketOf, quantile, sparkOf, sumOf, timeline, type Measure } from "./sums";
import { TopApps } from "./TopApps";

/** From how many of the newest requests percentiles and provider states are told. */
const SAMPLE = 200;

const FORMATS = {
  spend: { format: money, formatAxis: moneyOnAxis },
  tokens: { format: count, formatAxis: count },
  requests: { format: count, formatAxis: count },
} as const;

export function OverviewPage() {
  const range = useRange();
  const usage = useQuery(usageQuery(`${bucketOf(range)},route`, range));
  const before = useQuery(usageQuery("route", range, 1));
  const newest = useQuery(sampleQuery(range, SAMPLE));

  if (usage.data?.length === 0 && newest.data?.items.length === 0) return <FirstSteps range={range} />;
  return (
    <Page title={t`Overview`} line={t`Is everything well, what does it cost, and which budget needs a look.`}>
      {usage.error ? <Problem error={usage.error} again={() => void usage.refetch()} /> : null}
      <Numbers usage={usage.data} before={before.data} rows={newest.data?.items} range={range} />
      <Timelines usage={usage.data} range={range} updatedMs={usage.dataUpdatedAt} />
      <div className={styles.columns}>
        <Budgets />
        <Providers rows={newest.data?.items} sample={SAMPLE} />
      </div>
      <TopApps range={range} />
    </Page>
  );
}

interface NumbersProps {
  usage: readonly UsageItem[] | undefined;
  before: readonly UsageItem[] | undefined;
  rows: readonly LedgerRow[] | undefined;
  range: RangeName;
}

function Numbers({ usage, before, rows, range }: NumbersProps) {
  const now = usage && sumOf(usage);
  const past = before && sumOf(before);
  const ttfts = rows?.flatMap((row) => (row.ttft_ms === null ? [] : [row.ttft_ms]));
  const spark = useMemo(() => usage && sparkOf(timeline(usage, range, "spend", Date.now())), [usage, range]);
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
        value={now && (now.requests === 0 ? "—" : share(now.errors / now.requests))}
        note={now && (now.errors === 0 ? t`none refused, failed or interrupted` : plural(now.errors, { one: "# request refused or failed", other: "# requests refused or failed" }))}
      />
      <Stat
        name={t`First token, p95`}
        value={ttfts && <Latency ms={quantile(ttfts, 0.95)} why={t`no answer with a first token in this range`} />}
        note={ttfts && ttfts.length > 0 ? plural(ttfts.length, { one: "of the newest # answer", other: "of the newest # answers" }) : t`no answers in this range`}
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

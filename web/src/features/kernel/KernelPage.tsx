/** Who is slow, on every route, as the kernel sees it: each second, beside the gateway's own clock. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery } from "@tanstack/react-query";
import { Outlet } from "@tanstack/react-router";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { useNow } from "@/ui/now";
import { Page, Section } from "@/ui/Page";
import { age, span } from "@/units/time";
import { sentence } from "@/units/words";
import styles from "./kernel.module.css";
import { Probes } from "./Probes";
import { telemetryQuery } from "./queries";
import { RouteTable } from "./RouteTable";
import { missingWhy, partialWhy } from "./words";

export function KernelPage() {
  const asked = useQuery(telemetryQuery);
  const telemetry = asked.data;
  // A team's members get no figures of the kernel, whatever runs: the rows say so, `source` does not.
  const source = telemetry?.routes[0]?.sources.kernel ?? telemetry?.source;
  const missing = source === undefined ? undefined : missingWhy(source);
  const partial = source === undefined ? undefined : partialWhy(source);
  return (
    <Page title={t`Telemetry`} line={t`Who is slow on each route: client, gateway, network or provider.`}>
      {missing === undefined ? null : (
        <Notice title={t`The kernel's figures are not measured`} {...(isMendable(missing) ? { snippet: "sluicegate doctor" } : {})}>
          <p>
            <Trans>{sentence(missing)}. Requests, errors and first tokens are by the gateway's own clock and go on.</Trans>{" "}
            {isMendable(missing) ? t`The doctor says what this host lacks and how to get it.` : ""}
          </p>
        </Notice>
      )}
      {partial === undefined ? null : (
        <Notice title={t`Only a part of the kernel's figures is measured`} snippet="sluicegate doctor">
          <p>
            <Trans>They come from {partial}. First byte, token gaps and resets take the programs; the doctor says how to get them.</Trans>
          </p>
        </Notice>
      )}
      <Section title={t`Routes and targets`} aside={<Age updatedMs={asked.dataUpdatedAt} failed={asked.error !== null} />}>
        <RouteTable telemetry={telemetry} missing={missing ?? partial} error={asked.error} again={() => void asked.refetch()} />
        <p className={styles.quiet}>
          <Trans>What is marked <i>gateway</i> comes from the ledger, all else from the kernel; “—” is not measured, never zero. Rates are means of the last minute.</Trans>
        </p>
      </Section>
      {telemetry ? <Probes telemetry={telemetry} updatedMs={asked.dataUpdatedAt} /> : null}
      <Outlet />
    </Page>
  );
}

/** Not where the reader's role is the reason. */
const isMendable = (reason: string): boolean => !reason.includes("all teams together");

const LATE_S = 4;

/** How old the figures are; loud once they do not come any more. */
function Age({ updatedMs, failed }: { updatedMs: number; failed: boolean }) {
  const nowMs = useNow();
  if (updatedMs === 0) return null;
  const lateS = (nowMs - updatedMs) / 1000;
  if (failed || lateS > LATE_S) return <Mark tone="warn">{t`Figures are ${span(Math.max(1, lateS))} old: the gateway does not answer`}</Mark>;
  return <span className={styles.age}>{t`each second · as of ${age(updatedMs, nowMs)}`}</span>;
}

/** Which of the chosen processes are read within TLS, which are not, and why. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import type { ProcessCoverage } from "@/api/model";
import { Empty, Problem } from "@/ui/Answer";
import { Notice } from "@/ui/Notice";
import { Page } from "@/ui/Page";
import { exact } from "@/units/count";
import { plain, sentence } from "@/units/words";
import styles from "./discoveries.module.css";
import { coverageQuery } from "./queries";
import { Tabs } from "./Tabs";
import { CoverageMark } from "./words";

const CHOOSE = `tls_watched = ["*/curl", "user:www-data"]`;

export function CoveragePage() {
  const asked = useQuery(coverageQuery);
  const told = asked.data;
  return (
    <Page title={t`Inside TLS`} line={t`Whose calls past the gateway are read, to count them by model and tokens.`} fill>
      <Tabs here="/discoveries/tls" />
      {told ? null : asked.error ? <Problem error={asked.error} again={() => void asked.refetch()} /> : <Skeleton height={160} />}
      {told?.reason ? (
        <Notice title={t`Nobody is read at present`} snippet="sluicegate doctor">
          <p>{sentence(plain(told.reason))}.</p>
        </Notice>
      ) : null}
      {told?.chosen && told.chosen.length > 0 ? (
        <p className={styles.chosen}>
          <Trans>
            Chosen by the setting <code>tls_watched</code>:
          </Trans>
          {told.chosen.map((each) => (
            <code key={each}>{each}</code>
          ))}
        </p>
      ) : null}
      {told && told.processes.length > 0 ? (
        <ul className={styles.processes} aria-label={t`Chosen processes`}>
          {told.processes.map((each) => (
            <Process key={[each.process, each.executable, each.user, each.container, each.state, each.reason].join()} each={each} />
          ))}
        </ul>
      ) : null}
      {told?.chosen?.length === 0 && told.processes.length === 0 ? (
        <Empty
          title={t`Nobody is chosen`}
          why={t`Name programs in sluicegate.toml of the data folder, and send “sluicegate serve” SIGHUP. They are read where they enter and leave their TLS library; what was said stays in the probes, and host, model, tokens and status are counted.`}
          snippet={CHOOSE}
        />
      ) : null}
      {told?.chosen && told.chosen.length > 0 && told.processes.length === 0 && !told.reason ? (
        <Empty title={t`None of them runs`} why={t`No process of this node fits, nor has one lately. It shows here as soon as it is executed.`} />
      ) : null}
    </Page>
  );
}

function Process({ each }: { each: ProcessCoverage }) {
  return (
    <li>
      <span>
        <b>{each.process ?? t`unknown`}</b>
        <span className={styles.owner}>
          {" "}
          {[each.user, each.container && t`in ${each.container}`].filter(Boolean).join(" ")}
        </span>
      </span>
      <CoverageMark state={each.state} reason={each.reason} />
      <code className={styles.owner}>{each.executable}</code>
      <span className={styles.running}>{each.running === 0 ? t`has ended` : t`${exact(each.running)} running`}</span>
      {each.reason ? <span className={styles.quiet}>{sentence(each.reason)}.</span> : null}
    </li>
  );
}

/** How the gateway on this node stands, what its host lacks, and what mends it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { IconStethoscope } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { Problem } from "@/ui/Answer";
import { CopyIcon } from "@/ui/Copy";
import { Facts } from "@/ui/Drawer";
import { Ago, Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Page, Section } from "@/ui/Page";
import { plain, sentence } from "@/units/words";
import styles from "./installation.module.css";
import { askDoctor, findingsQuery, healthQuery, type Findings } from "./queries";
import { byWorst, StateMark } from "./words";

export function HealthPage() {
  const health = useQuery(healthQuery);
  const queries = useQueryClient();
  const findings = useQuery(findingsQuery);
  const examine = useMutation({ mutationFn: () => askDoctor(true), onSuccess: (found) => queries.setQueryData(findingsQuery.queryKey, found) });
  const looking = findings.isFetching || examine.isPending;
  const error = examine.error ?? findings.error;
  return (
    <Page
      title={t`Health`}
      line={t`How the gateway on this node stands, what its host lacks, and what mends it.`}
      action={
        <Button variant="default" leftSection={<IconStethoscope size={16} />} loading={looking} onClick={() => examine.mutate()}>
          <Trans>Examine it again</Trans>
        </Button>
      }
    >
      <Section title={t`Parts`} aside={health.data ? <code>{health.data.node}</code> : null}>
        {health.error ? <Problem error={health.error} again={() => void health.refetch()} /> : null}
        {health.data ? <Rows rows={health.data.parts.map(({ name, state, detail, fix }) => ({ name, state, detail, fix: fix ?? "" }))} /> : health.error ? null : <Skeleton height={190} radius={8} />}
      </Section>
      <Section title={t`What the doctor finds`} aside={findings.data ? <Sum findings={findings.data} /> : null}>
        {error ? <Problem error={error} again={() => examine.mutate()} /> : null}
        {findings.data ? (
          <Rows rows={byWorst(findings.data.items, (each) => each.verdict).map(({ subject, verdict, detail, fix }) => ({ name: subject, state: verdict, detail, fix }))} />
        ) : error ? null : (
          <Skeleton height={360} radius={8} />
        )}
        <p className={styles.quiet}>
          <Trans>
            Found by the gateway's own user. As root, <code>sudo sluicegate doctor</code> sees what only root may, the firewall's rules among it.
          </Trans>
        </p>
      </Section>
      {health.data ? (
        <Section title={t`Versions`}>
          <Facts
            facts={[
              [t`Sluicegate`, <code key="s">{health.data.versions.sluicegate}</code>],
              [t`Python`, <code key="p">{health.data.versions.python}</code>],
              [t`Database`, health.data.versions.database ? <code key="d">{health.data.versions.database}</code> : <Unknown key="d" why={t`it does not answer`} />],
              [t`Schema`, health.data.versions.schema_revision ? <code key="r">{health.data.versions.schema_revision}</code> : <Unknown key="r" why={t`the database does not answer`} />],
              [t`Kernel`, <code key="k">{health.data.versions.kernel}</code>],
            ]}
          />
        </Section>
      ) : null}
    </Page>
  );
}

function Sum({ findings }: { findings: Findings }) {
  const broken = findings.items.filter((each) => each.verdict === "broken").length;
  const weak = findings.items.filter((each) => each.verdict === "warning").length;
  return (
    <span className={styles.sum}>
      {broken > 0 ? <Mark tone="bad">{t`${broken} broken`}</Mark> : null}
      {weak > 0 ? <Mark tone="warn">{t`${weak} to look at`}</Mark> : null}
      {broken + weak === 0 ? <Mark tone="ok">{t`All is well`}</Mark> : null}
      <Ago at={findings.examined_at} />
    </span>
  );
}

/** A sentence, unless it begins with something by name: a path, a URL, an id. */
const told = (detail: string): string => (/^[a-z]+(?=[ ,.;]|$)/.test(detail) ? sentence(detail) : detail);

interface Row {
  name: string;
  state: "ok" | "info" | "warning" | "broken";
  detail: string;
  fix: string;
}

function Rows({ rows }: { rows: readonly Row[] }) {
  return (
    <ul className={styles.rows}>
      {rows.map(({ name, state, detail, fix }, index) => (
        <li key={`${name} ${index}`}>
          <span className={styles.name}>{sentence(name)}</span>
          <StateMark state={state} />
          <span className={styles.detail}>
            {told(plain(detail))}
            {fix && state !== "ok" ? (
              <span className={styles.fix}>
                <code>{plain(fix)}</code>
                <CopyIcon text={plain(fix)} what={t`what mends it`} />
              </span>
            ) : null}
          </span>
        </li>
      ))}
    </ul>
  );
}

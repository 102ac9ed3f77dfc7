/** One version against what is in force, and the way back to it with its consequences. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { IconArrowBackUp, IconArrowLeft } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { lazy, Suspense, useState } from "react";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { When } from "@/ui/Figure";
import { Page, Section } from "@/ui/Page";
import { DifferenceList } from "./Differences";
import { DryRunResult, refusalWords } from "./DryRunResult";
import { draftQuery, restoreVersion, versionDiffQuery, versionDryRunQuery, versionQuery } from "./queries";
import styles from "./publish.module.css";

const SideBySide = lazy(() => import("./SideBySide"));

export function VersionPage() {
  const number = Number(useParams({ from: "/frame/publish/versions/$number" }).number);
  const version = useQuery(versionQuery(number));
  const diff = useQuery(versionDiffQuery(number));
  const differs = (diff.data?.differences.length ?? 0) > 0;
  const tried = useQuery({ ...versionDryRunQuery(number), enabled: differs });
  const draft = useQuery(draftQuery).data;
  const [asking, setAsking] = useState(false);
  const [whole, setWhole] = useState(false);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const changes = plural(diff.data?.differences.length ?? 0, { one: "# change", other: "# changes" });
  const words = refusalWords(tried.data);
  return (
    <Page
      title={t`Version ${number}`}
      line={version.data?.note || t`What rolling back to it would change of what is in force.`}
      action={
        <Button leftSection={<IconArrowBackUp size={16} />} disabled={!differs} onClick={() => setAsking(true)}>
          {t`Roll back to version ${number}`}
        </Button>
      }
    >
      <p className={styles.back}>
        <Link to="/publish/versions">
          <IconArrowLeft size={14} aria-hidden /> <Trans>All versions</Trans>
        </Link>
        {version.data ? (
          <span>
            <Trans>
              published by {version.data.actor.replace(/^user:/, "")}, <When at={version.data.published_at} />
            </Trans>
          </span>
        ) : null}
      </p>
      {version.error ? <Problem error={version.error} again={() => void version.refetch()} /> : null}
      {diff.error && !version.error ? <Problem error={diff.error} again={() => void diff.refetch()} /> : null}
      {diff.data === undefined ? diff.error ? null : <Skeleton height={160} /> : null}
      {diff.data && !differs ? (
        <p>
          <Trans>This version is what is in force.</Trans>
        </p>
      ) : null}
      {diff.data && differs ? (
        <>
          <Section
            title={t`What would change`}
            aside={
              <Button size="compact-xs" variant="subtle" color="gray" onClick={() => setWhole(!whole)} aria-expanded={whole}>
                {whole ? <Trans>Hide the whole YAML</Trans> : <Trans>The whole YAML</Trans>}
              </Button>
            }
          >
            <DifferenceList differences={diff.data.differences} />
            {whole ? (
              <Suspense>
                <SideBySide before={diff.data.before} after={diff.data.after} label={t`The whole YAML`} />
              </Suspense>
            ) : null}
          </Section>
          <Section title={t`Tried on the last hour's requests`}>
            <DryRunResult result={tried.data} error={tried.error} again={() => void tried.refetch()} />
          </Section>
        </>
      ) : null}
      {asking ? (
        <Confirm
          title={t`Roll back to version ${number}?`}
          consequence={
            <>
              <p>
                <Trans>
                  {changes}, in force in every worker within a second. {words}
                </Trans>
              </p>
              {draft?.exists ? (
                <p>
                  <Trans>The draft stays; what contradicts it is shown there.</Trans>
                </p>
              ) : null}
            </>
          }
          deed={t`Roll back ${changes}`}
          act={async () => {
            await restoreVersion(number);
            await queries.invalidateQueries();
            await navigate({ to: "/publish/versions" });
          }}
          close={() => setAsking(false)}
        />
      ) : null}
    </Page>
  );
}

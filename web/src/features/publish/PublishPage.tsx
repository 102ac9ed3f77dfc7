/** What is drafted: in words, against what is in force, tried on the last hour's requests; published or thrown away. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton, Textarea } from "@mantine/core";
import { IconRefresh, IconUpload } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useMay } from "@/api/session";
import { Empty, Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Ago } from "@/ui/Figure";
import { FormDialog } from "@/ui/FormDialog";
import { Page, Section } from "@/ui/Page";
import { ShownOnce } from "@/ui/ShownOnce";
import { Tabs } from "@/ui/Tabs";
import { Told } from "@/ui/Told";
import { Conflicts } from "./Conflicts";
import { DifferenceList } from "./Differences";
import { DryRunResult, refusalWords } from "./DryRunResult";
import { discardDraft, draftDiffQuery, draftDryRunQuery, draftQuery, publishDraft, type Differences, type Draft } from "./queries";
import { TABS } from "./tabs";
import styles from "./publish.module.css";

export function PublishPage() {
  const may = useMay();
  const draft = useQuery(draftQuery);
  const [keys, setKeys] = useState<Awaited<ReturnType<typeof publishDraft>>["keys"]>([]);
  return (
    <Page title={t`Publish`} line={t`Changes that are drafted, what they would do, and what was published before.`}>
      <Tabs label={t`Publish`} tabs={TABS} here="/publish" />
      {draft.error ? <Problem error={draft.error} again={() => void draft.refetch()} /> : null}
      {draft.data === undefined ? draft.error ? null : <Skeleton height={240} /> : null}
      {draft.data && !draft.data.exists ? <Nothing mayChange={may("configuration:write")} /> : null}
      {draft.data?.exists ? may("configuration:write") ? <Drafted draft={draft.data} showKeys={setKeys} /> : <p>{plural(draft.data.changes, { one: "# change is drafted. It takes the role of an operator to see it.", other: "# changes are drafted. It takes the role of an operator to see them." })}</p> : null}
      {keys[0] ? <ShownOnce title={t`Key ${keys[0].name} of ${keys[0].app}`} secret={keys[0].key} copy={t`Copy the key`} close={() => setKeys(keys.slice(1))} /> : null}
    </Page>
  );
}

function Nothing({ mayChange }: { mayChange: boolean }) {
  const navigate = useNavigate();
  return (
    <Empty
      title={t`Nothing is drafted`}
      why={t`“Save to draft” in the form of a route, provider, app, limit or price collects changes here. They are compared and tried before all of them are published at once.`}
      action={
        mayChange ? (
          <Button onClick={() => void navigate({ to: "/publish/yaml" })}>
            <Trans>Edit the configuration as YAML</Trans>
          </Button>
        ) : null
      }
      snippet={`curl -X PATCH ${window.location.origin}/api/v1/draft/entries/route/chat \\
  -H "Authorization: Bearer $SLUICEGATE_TOKEN" -H "Content-Type: application/json" -d '{"retries": 2}'`}
    />
  );
}

function Drafted({ draft, showKeys }: { draft: Draft; showKeys: (keys: Awaited<ReturnType<typeof publishDraft>>["keys"]) => void }) {
  const diff = useQuery(draftDiffQuery(draft.revision));
  const canTry = diff.data !== undefined && diff.data.errors.length === 0;
  const tried = useQuery({ ...draftDryRunQuery(draft.revision), enabled: canTry });
  const [asking, setAsking] = useState<"publish" | "discard" | undefined>();
  const queries = useQueryClient();
  const changes = plural(draft.changes, { one: "# change", other: "# changes" });
  const blocked = diff.data === undefined || diff.data.errors.length > 0 || diff.data.conflicts.length > 0;
  const by = draft.started_by?.replace(/^user:/, "") ?? "";
  return (
    <>
      <div className={styles.summary}>
        <p>
          <b>{changes}</b>
          {" · "}
          <Trans>
            begun by {by}, <Ago at={draft.started_at} />; last changed <Ago at={draft.updated_at} />
          </Trans>
        </p>
        <div className={styles.deeds}>
          <Button variant="default" onClick={() => setAsking("discard")}>
            <Trans>Discard the draft</Trans>
          </Button>
          <Button leftSection={<IconUpload size={16} />} disabled={blocked} onClick={() => setAsking("publish")}>
            {t`Publish ${changes}`}
          </Button>
        </div>
      </div>
      {diff.error ? <Problem error={diff.error} again={() => void diff.refetch()} /> : null}
      {diff.data ? <InTheWay diff={diff.data} /> : diff.error ? null : <Skeleton height={160} />}
      {diff.data && diff.data.differences.length > 0 ? (
        <Section title={t`What would change`}>
          <DifferenceList differences={diff.data.differences} canTakeBack />
        </Section>
      ) : null}
      {canTry ? (
        <Section
          title={t`Tried on the last hour's requests`}
          aside={
            <Button size="compact-xs" variant="subtle" color="gray" leftSection={<IconRefresh size={14} />} loading={tried.isFetching} onClick={() => void tried.refetch()}>
              <Trans>Try again</Trans>
            </Button>
          }
        >
          <DryRunResult result={tried.data} error={tried.error} again={() => void tried.refetch()} />
        </Section>
      ) : null}
      {asking === "publish" ? (
        <PublishForm
          changes={changes}
          words={refusalWords(tried.data)}
          revision={draft.revision}
          close={() => setAsking(undefined)}
          done={async (published) => {
            setAsking(undefined);
            showKeys(published.keys);
            await queries.invalidateQueries(); // anything may have changed
          }}
        />
      ) : null}
      {asking === "discard" ? (
        <Confirm
          title={t`Discard the draft?`}
          consequence={t`${changes} go, and cannot be had back. What is in force stays as it is.`}
          deed={t`Discard ${changes}`}
          act={async () => {
            await discardDraft(draft.revision);
            await queries.invalidateQueries({ queryKey: ["draft"] });
          }}
          close={() => setAsking(undefined)}
        />
      ) : null}
    </>
  );
}

interface PublishFormProps {
  changes: string;
  words: string;
  revision: number;
  close: () => void;
  done: (published: Awaited<ReturnType<typeof publishDraft>>) => unknown;
}

function PublishForm({ changes, words, revision, close, done }: PublishFormProps) {
  const [note, setNote] = useState("");
  return (
    <FormDialog title={t`Publish ${changes}?`} deed={t`Publish ${changes}`} complete act={() => publishDraft(revision, note.trim())} done={done} close={close}>
      <p className={styles.consequence}>
        <Trans>In force in every worker within a second. {words}</Trans>
      </p>
      <Textarea label={t`Note`} description={t`Why: shown in the list of versions`} value={note} onChange={(event) => setNote(event.currentTarget.value)} maxLength={1000} rows={3} data-autofocus />
    </FormDialog>
  );
}

/** What keeps the draft from being published. */
function InTheWay({ diff }: { diff: Differences }) {
  return (
    <>
      {diff.errors.length > 0 ? (
        <Section title={t`It does not apply as it is`}>
          <div className={styles.problems} role="alert">
            <ul>
            {diff.errors.map((each) => (
              <li key={`${each.line} ${each.field} ${each.problem}`}>
                {each.field ? <code>{each.field}</code> : null} <Told>
                  {each.problem}; {each.remedy}
                </Told>{" "}
                <Link to="/publish/yaml" search={{ line: each.line }}>{t`line ${each.line}`}</Link>
              </li>
            ))}
            </ul>
          </div>
        </Section>
      ) : null}
      {diff.conflicts.length > 0 ? (
        <Section title={t`Changed on both sides: choose`}>
          <p className={styles.quiet}>
            <Trans>Somebody has changed this in force after it was drafted. All other changes of both sides are kept.</Trans>
          </p>
          <Conflicts conflicts={diff.conflicts} />
        </Section>
      ) : null}
    </>
  );
}

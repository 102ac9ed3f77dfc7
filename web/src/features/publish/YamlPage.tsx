/** The whole configuration as YAML, with what is wrong at its line; saving makes it the draft. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { IconDeviceFloppy } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useBlocker, useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useRef, useState } from "react";
import { ApiProblem } from "@/api/problem";
import { Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import { Tabs } from "@/ui/Tabs";
import { Told } from "@/ui/Told";
import { draftDocumentQuery, saveDocument } from "./queries";
import { TABS } from "./tabs";
import styles from "./publish.module.css";

interface LineError {
  line: number;
  field: string;
  problem: string;
  remedy: string;
}

export function YamlPage() {
  const read = useQuery(draftDocumentQuery);
  return (
    <Page title={t`Publish`} line={t`The configuration as it would be: the draft, or what is in force where nothing is drafted.`} fill>
      <Tabs label={t`Publish`} tabs={TABS} here="/publish/yaml" />
      {read.error ? <Problem error={read.error} again={() => void read.refetch()} /> : null}
      {read.data ? <Editor key={read.data.revision} revision={read.data.revision} text={read.data.document} /> : read.error ? null : <Skeleton height={400} />}
    </Page>
  );
}

function Editor({ revision, text }: { revision: number; text: string }) {
  const [written, setWritten] = useState(text);
  const { line } = useSearch({ from: "/frame/publish/yaml" });
  const area = useRef<HTMLTextAreaElement>(null);
  const gutter = useRef<HTMLDivElement>(null);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const saved = useRef(false);
  const saving = useMutation({
    mutationFn: () => saveDocument(written, revision),
    onSuccess: async () => {
      saved.current = true;
      await queries.invalidateQueries({ queryKey: ["draft"] });
      await navigate({ to: "/publish" });
    },
  });
  const changed = written !== text;
  useBlocker({
    shouldBlockFn: () => changed && !saved.current && !window.confirm(t`Leave, and lose what you have written?`),
    enableBeforeUnload: () => changed && !saved.current,
  });
  const errors = errorsOf(saving.error);
  const count = written.split("\n").length;
  const marked = new Set(errors.map((each) => each.line));

  function goTo(number: number): void {
    const box = area.current;
    if (!box) return;
    const lines = written.split("\n");
    const start = lines.slice(0, number - 1).reduce((sum, each) => sum + each.length + 1, 0);
    box.focus();
    box.setSelectionRange(start, start + (lines[number - 1]?.length ?? 0));
    box.scrollTop = Math.max(0, (number - 6) * LINE_PX);
  }

  useEffect(() => {
    if (line !== undefined) goTo(line);
    // eslint-disable-next-line react-hooks/exhaustive-deps -- once: where the address points at
  }, []);

  return (
    <>
      {saving.error && errors.length === 0 ? <Problem error={saving.error} /> : null}
      {errors.length > 0 ? (
        <div className={styles.problems} role="alert">
          <ul>
          {errors.map((each) => (
            <li key={`${each.line} ${each.field} ${each.problem}`}>
              <button type="button" className={styles.line} onClick={() => goTo(each.line)}>{t`Line ${each.line}`}</button> {each.field ? <code>{each.field}</code> : null} <Told>
                {each.problem}; {each.remedy}
              </Told>
            </li>
          ))}
          </ul>
        </div>
      ) : null}
      <div className={styles.editor}>
        <div ref={gutter} className={styles.gutter} aria-hidden>
          {Array.from({ length: count }, (_, index) => (
            <div key={index} data-wrong={marked.has(index + 1) || undefined}>
              {index + 1}
            </div>
          ))}
        </div>
        <textarea
          ref={area}
          className={styles.text}
          aria-label={t`Configuration as YAML`}
          aria-invalid={errors.length > 0}
          spellCheck={false}
          autoCapitalize="off"
          autoCorrect="off"
          wrap="off"
          value={written}
          onChange={(event) => setWritten(event.currentTarget.value)}
          onScroll={(event) => {
            if (gutter.current) gutter.current.scrollTop = event.currentTarget.scrollTop;
          }}
        />
      </div>
      <div className={styles.foot}>
        <p className={styles.quiet}>
          <Trans>
            Secrets are references; what you write in their place is sealed. The draft is kept as <code>export</code> writes it, without comments.
          </Trans>
        </p>
        <Button variant="default" disabled={!changed} onClick={() => setWritten(text)}>
          <Trans>Undo all</Trans>
        </Button>
        <Button leftSection={<IconDeviceFloppy size={16} />} disabled={!changed} loading={saving.isPending} onClick={() => saving.mutate()}>
          <Trans>Check and save to draft</Trans>
        </Button>
      </div>
    </>
  );
}

const LINE_PX = 20;

function errorsOf(error: unknown): LineError[] {
  if (!(error instanceof ApiProblem) || !Array.isArray(error.told["errors"])) return [];
  return (error.told["errors"] as Partial<LineError>[]).flatMap((each) =>
    typeof each.line === "number" ? [{ line: each.line, field: each.field ?? "", problem: each.problem ?? "", remedy: each.remedy ?? "" }] : [],
  );
}

/** One entry: who, what, from where, and each field before and after. */
import { t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { AuditEntry } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { CopyIcon } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Ago, Unknown, When } from "@/ui/Figure";
import { exact } from "@/units/count";
import styles from "./audit.module.css";
import { entryQuery } from "./queries";
import { ActionMark, actorOf, differences, noOrigin } from "./words";

export function AuditDrawer() {
  const { seq } = useParams({ from: "/frame/audit/$seq" });
  const navigate = useNavigate();
  const close = useCallback(() => void navigate({ to: "/audit", search: (old) => old }), [navigate]);
  const entry = useQuery(entryQuery(Number(seq)));
  return (
    <Drawer title={entry.data ? `${entry.data.kind} ${entry.data.name}` : t`Entry ${seq}`} label={t`Audit entry`} close={close}>
      {entry.data ? <Details entry={entry.data} /> : entry.data === null ? <p>{t`There is no entry ${seq}. The log has no gaps unless one was made: verify it.`}</p> : entry.error ? <Problem error={entry.error} again={() => void entry.refetch()} /> : <Skeleton height={280} />}
    </Drawer>
  );
}

function Details({ entry }: { entry: AuditEntry }) {
  const { kind, name } = actorOf(entry.actor);
  const fields = differences(entry.before, entry.after);
  return (
    <>
      <Facts
        facts={[
          [t`Did`, <ActionMark key="a" action={entry.action} />],
          [t`Who`, <span key="w">{name} <span className={styles.quiet}>{kind}</span></span>],
          [t`When`, <span key="t"><When at={entry.at} /> (<Ago at={entry.at} />)</span>],
          [t`From`, entry.origin ? <code key="o">{entry.origin}</code> : <Unknown key="o" why={noOrigin(entry)} />],
        ]}
      />
      <Part title={entry.before === null ? t`What was made` : entry.after === null ? t`What it was` : t`What changed`}>
        {fields.length === 0 ? (
          <p className={styles.quiet}>{t`This deed has no before and after.`}</p>
        ) : entry.before === null || entry.after === null ? (
          <Facts facts={fields.map((each) => [each.field, <code key={each.field} className={styles.value}>{each.before ?? each.after}</code>])} />
        ) : (
          <dl className={styles.changes}>
            {fields.map((each) => (
              <div key={each.field}>
                <dt>{each.field}</dt>
                {each.before === undefined ? null : <dd data-side="before"><span className="unseen">{t`before:`} </span>{each.before}</dd>}
                {each.after === undefined ? null : <dd data-side="after"><span className="unseen">{t`after:`} </span>{each.after}</dd>}
              </div>
            ))}
          </dl>
        )}
      </Part>
      <Part title={t`In the chain`}>
        <Facts
          facts={[
            [t`Entry`, exact(entry.seq)],
            [t`Hash`, <Hash key="h" text={entry.hash} what={t`hash`} />],
            [t`Hash before it`, <Hash key="p" text={entry.previous_hash} what={t`hash before it`} />],
          ]}
        />
      </Part>
    </>
  );
}

function Hash({ text, what }: { text: string; what: string }) {
  return (
    <span className={styles.head}>
      <code title={text}>{text.slice(0, 16)}…</code>
      <CopyIcon text={text} what={what} />
    </span>
  );
}

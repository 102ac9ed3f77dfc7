/** Where one is signed in; each session can be ended, and all others at once. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { OwnSession } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, Unknown, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Section } from "@/ui/Page";
import styles from "./account.module.css";
import { endOtherSessions, endSession, ownSessionsQuery } from "./queries";
import { deviceWords, methodWords } from "./words";

export function Sessions() {
  const sessions = useQuery(ownSessionsQuery);
  const queries = useQueryClient();
  const [endingAll, setEndingAll] = useState(false);
  const renew = () => queries.invalidateQueries({ queryKey: ownSessionsQuery.queryKey });
  const ending = useMutation({ mutationFn: endSession, onSettled: renew });
  const others = (sessions.data?.length ?? 0) - 1;
  const columns: readonly Column<OwnSession>[] = [
    {
      id: "device",
      header: t`Device`,
      cell: (session) => (
        <span className={styles.device}>
          <span title={session.user_agent ?? ""}>{deviceWords(session.user_agent)}</span>
          {session.current ? <Mark tone="ok">{t`This one`}</Mark> : null}
        </span>
      ),
    },
    { id: "address", header: t`Address`, hide: "phone", cell: (session) => session.address ?? <Unknown why={t`begun before this was kept`} /> },
    { id: "method", header: t`Signed in by`, hide: "phone", cell: (session) => methodWords(session.method) },
    { id: "seen", header: t`Last seen`, cell: (session) => <Ago at={session.last_seen_at} /> },
    { id: "begun", header: t`Begun`, hide: "tablet", cell: (session) => <When at={session.created_at} /> },
    { id: "ends", header: t`Ends`, note: t`at the latest`, hide: "tablet", cell: (session) => <When at={session.expires_at} /> },
    {
      id: "deed",
      header: "",
      number: true,
      cell: (session) =>
        session.current ? null : (
          <Button size="compact-sm" variant="subtle" color="red" onClick={() => ending.mutate(session.id)} aria-label={t`Sign out ${deviceWords(session.user_agent)}`}>
            <Trans>Sign out</Trans>
          </Button>
        ),
    },
  ];
  return (
    <Section
      title={t`Sessions`}
      aside={
        others > 0 ? (
          <Button size="xs" variant="default" onClick={() => setEndingAll(true)}>
            <Trans>Sign out everywhere else</Trans>
          </Button>
        ) : null
      }
    >
      {ending.error ? <Problem error={ending.error} /> : null}
      <DataTable label={t`Sessions`} columns={columns} rows={sessions.data} rowId={(session) => String(session.id)} error={sessions.error} again={() => void sessions.refetch()} empty={null} />
      {endingAll ? (
        <Confirm
          title={t`Sign out everywhere else?`}
          consequence={plural(others, { one: "# other session ends at once. This one goes on.", other: "# other sessions end at once. This one goes on." })}
          deed={t`Sign out everywhere else`}
          act={async () => {
            await endOtherSessions();
            await renew();
          }}
          close={() => setEndingAll(false)}
        />
      ) : null}
    </Section>
  );
}

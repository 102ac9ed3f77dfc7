/** What people were told of, and how it reached them. */
import { t } from "@lingui/core/macro";
import { Select } from "@mantine/core";
import { useInfiniteQuery, useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import type { Told } from "@/api/model";
import { sessionQuery, useMay } from "@/api/session";
import { teamsQuery } from "@/features/apps/queries";
import { ContactPart } from "@/features/usage/ContactPart";
import { Empty } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import { DataTable, type Column } from "@/ui/DataTable";
import { When } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { usePaged } from "@/ui/usePaged";
import { AccessTabs } from "./AccessTabs";
import { Deliveries, NoticeTitle } from "./Notices";
import { noticesQuery } from "./queries";

export function NoticesPage() {
  const team = useQuery(sessionQuery).data?.team ?? null;
  const paged = usePaged(useInfiniteQuery(noticesQuery));
  const columns = useMemo(() => (team === null ? COLUMNS : COLUMNS.filter((column) => column.id !== "team")), [team]);
  return (
    <Page title={t`Notices`} line={t`Budgets at 50, 80 and 100 %, access that was asked for, decided or has ended; and whether mail and webhooks were delivered.`} action={team === null ? <OfTeam /> : null} fill>
      <AccessTabs here="/access-requests/notices" />
      <DataTable
        label={t`Notices`}
        columns={columns}
        {...paged}
        rowId={(notice) => String(notice.id)}
        fill
        empty={<Empty title={t`No notices`} why={t`A notice is written when a budget reaches 50, 80 or 100 %, and when access is asked for or decided. Mail goes out once a mail server is named.`} snippet="SLUICEGATE_SMTP=mail.example.com:587 SLUICEGATE_NOTICE_EMAILS='[&quot;ops@example.com&quot;]'" />}
      />
    </Page>
  );
}

const COLUMNS: readonly Column<Told>[] = [
  { id: "at", header: t`Time`, width: "130px", cell: (notice) => <When at={notice.at} /> },
  { id: "title", header: t`What`, cell: (notice) => <NoticeTitle notice={notice} /> },
  { id: "team", header: t`Team`, hide: "phone", width: "140px", cell: (notice) => notice.team ?? t`platform` },
  { id: "sent", header: t`Sent to`, hide: "tablet", cell: (notice) => <Deliveries notice={notice} /> },
];

/** For the platform's people: who is told of a team's notices. Teams find theirs under Usage. */
function OfTeam() {
  const may = useMay();
  const teams = useQuery({ ...teamsQuery, enabled: may("apps:write") }).data ?? [];
  const [chosen, setChosen] = useState<string>();
  if (!may("apps:write") || teams.length === 0) return null;
  return (
    <>
      <Select aria-label={t`Who is told in a team`} placeholder={t`Who is told in a team…`} data={teams.map((each) => each.name)} value={null} searchable onChange={(team) => setChosen(team ?? undefined)} />
      {chosen ? (
        <Dialog title={t`Team ${chosen}`} close={() => setChosen(undefined)}>
          <ContactPart team={chosen} />
        </Dialog>
      ) : null}
    </>
  );
}

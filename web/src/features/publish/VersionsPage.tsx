/** What was published: when, by whom, why. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, TextInput } from "@mantine/core";
import { IconBookmark } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { useMay } from "@/api/session";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { When } from "@/ui/Figure";
import { FormDialog } from "@/ui/FormDialog";
import { Page } from "@/ui/Page";
import { Tabs } from "@/ui/Tabs";
import { keepVersion, versionsQuery, type Version } from "./queries";
import { TABS } from "./tabs";

const FEW = 100;

export function VersionsPage() {
  const [limit, setLimit] = useState(FEW);
  const versions = useQuery(versionsQuery(limit));
  const [keeping, setKeeping] = useState(false);
  const may = useMay();
  const navigate = useNavigate();
  const keep = may("configuration:write") ? (
    <Button variant="default" leftSection={<IconBookmark size={16} />} onClick={() => setKeeping(true)}>
      <Trans>Keep what is in force</Trans>
    </Button>
  ) : null;
  return (
    <Page title={t`Publish`} line={t`States of the whole configuration that were kept. Any of them can be compared with what is in force, and brought back.`} action={keep}>
      <Tabs label={t`Publish`} tabs={TABS} here="/publish/versions" />
      <DataTable
        label={t`Versions`}
        columns={COLUMNS}
        rows={versions.data?.items}
        rowId={(version) => String(version.number)}
        error={versions.error}
        again={() => void versions.refetch()}
        {...(may("configuration:write") ? { open: (version: Version) => void navigate({ to: "/publish/versions/$number", params: { number: String(version.number) } }) } : {})}
        empty={<Empty title={t`No versions`} why={t`Each publishing keeps the whole configuration as a version. None has been published yet; what is in force now can be kept, too.`} action={keep} snippet={`curl -X POST ${window.location.origin}/api/v1/versions -H "Authorization: Bearer $SLUICEGATE_TOKEN" \\
  -H "Content-Type: application/json" -d '{"note": "before the move"}'`} />}
      />
      {versions.data?.next_cursor && limit < 1000 ? (
        <div>
          <Button variant="default" size="xs" loading={versions.isFetching} onClick={() => setLimit(1000)}>
            <Trans>Show older versions</Trans>
          </Button>
        </div>
      ) : null}
      {keeping ? <KeepForm close={() => setKeeping(false)} /> : null}
    </Page>
  );
}

function KeepForm({ close }: { close: () => void }) {
  const [note, setNote] = useState("");
  const queries = useQueryClient();
  return (
    <FormDialog
      title={t`Keep what is in force as a version`}
      deed={t`Keep it`}
      complete
      act={() => keepVersion(note.trim())}
      done={async () => {
        await queries.invalidateQueries({ queryKey: ["versions"] });
        close();
      }}
      close={close}
    >
      <TextInput label={t`Note`} description={t`Why: shown in the list`} value={note} onChange={(event) => setNote(event.currentTarget.value)} maxLength={1000} data-autofocus />
    </FormDialog>
  );
}

const COLUMNS: readonly Column<Version>[] = [
  {
    id: "number",
    header: t`Version`,
    width: "96px",
    cell: (version) => (
      <Link to="/publish/versions/$number" params={{ number: String(version.number) }}>
        {version.number}
      </Link>
    ),
  },
  { id: "at", header: t`Published`, width: "180px", cell: (version) => <When at={version.published_at} /> },
  { id: "actor", header: t`By`, hide: "phone", cell: (version) => version.actor.replace(/^user:/, "") },
  { id: "note", header: t`Note`, cell: (version) => version.note },
];

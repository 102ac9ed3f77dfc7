/** An app, new or edited: in a team that exists or, for a new app, in a new one. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { App } from "@/api/model";
import { useMay, useNameMark } from "@/api/session";
import { EditForm } from "@/features/publish/EditForm";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog } from "@/ui/FormDialog";
import { wholeName } from "@/ui/OwnName";
import { AppFields } from "./AppFields";
import { appQuery, appsQuery, changeApp, keysQuery, makeApp, makeTeam, teamsQuery } from "./queries";
import { APP, isComplete, NEW, wantedOf, type AppWritten } from "./written";

export function AppForm({ close }: { close: () => void }) {
  const may = useMay();
  const teams = useQuery(teamsQuery).data;
  const mark = useNameMark();
  const [written, setWritten] = useState<AppWritten>(NEW);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const name = written.name.trim() === "" ? "" : wholeName(mark, written.name);
  const team = written.team.trim();
  const isNewTeam = teams !== undefined && team !== "" && !teams.some((each) => each.name === team);

  async function make(): Promise<App> {
    if (isNewTeam) {
      await makeTeam(team);
      // At once: it exists now, even if its app is refused.
      await queries.invalidateQueries({ queryKey: teamsQuery.queryKey });
    }
    return makeApp(wantedOf({ ...written, name }));
  }

  async function draft(): Promise<void> {
    if (isNewTeam) await draftEntry("team", team, { name: team });
    await draftEntry("app", name, { ...wantedOf({ ...written, name }) }, "none");
  }

  return (
    <FormDialog
      title={t`Add an app`}
      deed={name ? t`Add ${name}` : t`Add the app`}
      complete={isComplete(written)}
      act={make}
      draft={may("configuration:write") ? draft : undefined}
      done={async (app) => {
        await queries.invalidateQueries({ queryKey: appsQuery.queryKey });
        close();
        await navigate({ to: "/apps/$name", params: { name: app.name } });
      }}
      close={close}
    >
      <AppFields written={written} change={(part) => setWritten({ ...written, ...part })} anyTeam />
    </FormDialog>
  );
}

export function AppEditForm({ app, close }: { app: App; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <EditForm
      shape={APP}
      thing={app}
      save={(version, patch) => changeApp(app.name, version, patch)}
      reread={() => queries.fetchQuery({ ...appQuery(app.name), staleTime: 0 })}
      shown={[appsQuery.queryKey, keysQuery.queryKey, teamsQuery.queryKey]}
      done={(saved) => navigate({ to: "/apps/$name", params: { name: saved.name } })}
      complete={isComplete}
      renaming={<Trans>What the ledger has stays under the old one.</Trans>}
      close={close}
    >
      {(written, change) => <AppFields written={written} change={change} />}
    </EditForm>
  );
}

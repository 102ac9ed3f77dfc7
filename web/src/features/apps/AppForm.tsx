/** A new app, in a team that exists or in a new one. */
import { t } from "@lingui/core/macro";
import { Autocomplete, MultiSelect, Switch, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { App } from "@/api/model";
import { useMay } from "@/api/session";
import { draftEntry } from "@/features/publish/queries";
import { routesQuery } from "@/features/routes/queries";
import { FormDialog } from "@/ui/FormDialog";
import { appsQuery, makeApp, makeTeam, teamsQuery } from "./queries";

export function AppForm({ close }: { close: () => void }) {
  const may = useMay();
  const teams = useQuery(teamsQuery).data?.map((each) => each.name) ?? [];
  const routes = useQuery(routesQuery).data?.map((route) => route.name) ?? [];
  const [name, setName] = useState("");
  const [team, setTeam] = useState("");
  const [all, setAll] = useState(false);
  const [chosen, setChosen] = useState<string[]>([]);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const isNewTeam = team.trim() !== "" && !teams.includes(team.trim());

  async function make(): Promise<App> {
    if (isNewTeam) {
      await makeTeam(team.trim());
      // At once: it exists now, even if its app is refused.
      await queries.invalidateQueries({ queryKey: teamsQuery.queryKey });
    }
    return makeApp({ name: name.trim(), team: team.trim(), routes: all ? "*" : chosen });
  }

  async function draft(): Promise<void> {
    if (isNewTeam) await draftEntry("team", team.trim(), { name: team.trim() });
    await draftEntry("app", name.trim(), { team: team.trim(), routes: all ? "*" : chosen }, "none");
  }

  return (
    <FormDialog
      title={t`Add an app`}
      deed={name.trim() ? t`Add ${name.trim()}` : t`Add the app`}
      complete={name.trim() !== "" && team.trim() !== ""}
      act={make}
      draft={may("configuration:write") ? draft : undefined}
      done={async (app) => {
        await queries.invalidateQueries({ queryKey: appsQuery.queryKey });
        close();
        await navigate({ to: "/apps/$name", params: { name: app.name } });
      }}
      close={close}
    >
      <TextInput label={t`App`} description={t`Its requests, cost and limits stand under this name`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Autocomplete
        label={t`Team`}
        description={isNewTeam && may("configuration:write") ? t`The team “${team.trim()}” will be made` : t`Whose app it is`}
        required
        data={teams}
        value={team}
        onChange={setTeam}
      />
      <Switch label={t`May call all routes, those made later too`} checked={all} onChange={(event) => setAll(event.currentTarget.checked)} />
      {all ? null : <MultiSelect label={t`May call`} data={routes} value={chosen} onChange={setChosen} searchable clearable placeholder={chosen.length === 0 ? t`Routes` : ""} />}
    </FormDialog>
  );
}

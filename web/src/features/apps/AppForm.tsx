/** A new app, in a team that exists or in a new one. */
import { Autocomplete, Button, Group, MultiSelect, Switch, TextInput } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import { useMay } from "@/api/session";
import { routesQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import { makeApp, makeTeam, teamsQuery } from "./queries";

export function AppForm({ close }: { close: () => void }) {
  const may = useMay();
  const teams = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const routes = useQuery(routesQuery).data?.map((route) => route.name) ?? [];
  const [name, setName] = useState("");
  const [team, setTeam] = useState("");
  const [all, setAll] = useState(false);
  const [chosen, setChosen] = useState<string[]>([]);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const isNewTeam = team.trim() !== "" && !teams.includes(team.trim());

  const making = useMutation({
    mutationFn: async () => {
      if (isNewTeam) await makeTeam(team.trim());
      return makeApp({ name: name.trim(), team: team.trim(), routes: all ? "*" : chosen });
    },
    onSuccess: async (app) => {
      close();
      await navigate({ to: "/apps/$name", params: { name: app.name } });
    },
    // A team may have been made although its app was refused.
    onSettled: () => Promise.all([queries.invalidateQueries({ queryKey: ["apps"] }), queries.invalidateQueries({ queryKey: ["teams"] })]),
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    making.mutate();
  }

  return (
    <Dialog title="Add an app" close={close}>
      <form onSubmit={submit} style={{ display: "grid", gap: 14 }}>
        {making.error ? <Problem error={making.error} /> : null}
        <TextInput label="App" description="Its requests, cost and limits stand under this name" required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
        <Autocomplete
          label="Team"
          description={isNewTeam && may("configuration:write") ? `The team “${team.trim()}” will be made` : "Whose app it is"}
          required
          data={teams}
          value={team}
          onChange={setTeam}
        />
        <Switch label="May call all routes, those made later too" checked={all} onChange={(event) => setAll(event.currentTarget.checked)} />
        {all ? null : <MultiSelect label="May call" data={routes} value={chosen} onChange={setChosen} searchable clearable placeholder={chosen.length === 0 ? "Routes" : ""} />}
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={making.isPending} disabled={name.trim() === "" || team.trim() === ""}>
            Add {name.trim() || "the app"}
          </Button>
        </Group>
      </form>
    </Dialog>
  );
}

/** What app teams read of a route, who sees it, and how they come to it; for an HTTP route its OpenAPI document. */
import { t } from "@lingui/core/macro";
import { FileInput, MultiSelect, Select, Switch, Textarea, TextInput } from "@mantine/core";
import { IconFileCode } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, unwrap } from "@/api/client";
import type { Access, Route } from "@/api/model";
import { teamsQuery } from "@/features/apps/queries";
import { FormDialog } from "@/ui/FormDialog";
import { ACCESS } from "./words";

export function ServiceForm({ route, close }: { route: Route; close: () => void }) {
  const known = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const [title, setTitle] = useState(route.service.title ?? "");
  const [description, setDescription] = useState(route.service.description ?? "");
  const [owner, setOwner] = useState(route.service.owner ?? "");
  const [documentation, setDocumentation] = useState(route.service.documentation ?? "");
  const [access, setAccess] = useState<Access>(route.service.access);
  const [everyone, setEveryone] = useState(route.service.teams === null);
  const [teams, setTeams] = useState(route.service.teams ?? []);
  const [file, setFile] = useState<File | null>(null);
  const queries = useQueryClient();

  async function save(): Promise<void> {
    if (file) {
      await unwrap(
        api.PUT("/api/v1/service-openapi/{ref}", {
          params: { path: { ref: route.name } },
          body: (await file.text()) as unknown as Record<string, never>,
          bodySerializer: (text: unknown) => String(text),
          headers: { "Content-Type": file.name.endsWith(".json") ? "application/json" : "application/yaml" },
        }),
      );
    }
    await unwrap(
      api.PATCH("/api/v1/routes/{ref}", {
        params: { path: { ref: route.name }, header: { "if-match": `"${route.version}"` } },
        body: {
          service: {
            title: title.trim() || null,
            description: description.trim() || null,
            owner: owner.trim() || null,
            documentation: documentation.trim() || null,
            access,
            teams: everyone ? null : teams,
          },
        },
      }),
    );
  }

  return (
    <FormDialog
      title={t`Service ${route.name}`}
      deed={t`Save the service`}
      complete
      act={save}
      done={async () => {
        await Promise.all(["routes", "catalogue"].map((kind) => queries.invalidateQueries({ queryKey: [kind] })));
        close();
      }}
      close={close}
    >
      <TextInput label={t`Title`} description={t`Left empty: the route's name`} value={title} maxLength={120} onChange={(event) => setTitle(event.currentTarget.value)} data-autofocus />
      <Textarea label={t`Description`} description={t`What it is for, and what it is not for`} autosize minRows={3} maxRows={10} value={description} maxLength={4000} onChange={(event) => setDescription(event.currentTarget.value)} />
      <TextInput label={t`Owner`} description={t`A name, a channel, or an e-mail address, which then hears of requests`} value={owner} maxLength={255} onChange={(event) => setOwner(event.currentTarget.value)} />
      <TextInput label={t`Documentation`} description={t`Where to read more`} value={documentation} placeholder="https://wiki.example.com/chat" onChange={(event) => setDocumentation(event.currentTarget.value)} />
      <Select label={t`Access`} description={ACCESS[access].why} data={Object.entries(ACCESS).map(([value, { label }]) => ({ value, label }))} value={access} allowDeselect={false} onChange={(chosen) => setAccess(chosen as Access)} />
      <Switch label={t`All teams see it in the catalogue`} checked={everyone} onChange={(event) => setEveryone(event.currentTarget.checked)} />
      {everyone ? null : <MultiSelect label={t`Teams that see it`} description={t`Beside those whose apps may call it`} data={known} value={teams} onChange={setTeams} searchable clearable />}
      {route.match ? (
        <FileInput label={t`OpenAPI document`} description={t`JSON or YAML, OpenAPI 3, up to 1 MiB; it is shown in the catalogue to be tried out`} placeholder={t`Choose a file`} accept=".json,.yaml,.yml" clearable value={file} onChange={setFile} leftSection={<IconFileCode size={16} />} />
      ) : null}
    </FormDialog>
  );
}

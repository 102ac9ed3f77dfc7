/** What app teams read of a route, who sees it, and how they come to it. */
import { t } from "@lingui/core/macro";
import { MultiSelect, Select, Switch, Textarea, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import type { Access, Route, ServiceText } from "@/api/model";
import { teamsQuery } from "@/features/apps/queries";
import { EditForm } from "@/features/publish/EditForm";
import type { Shape } from "@/features/publish/useEditing";
import { changeRoute, routeQuery } from "@/features/routes/queries";
import { useWrong } from "@/ui/wrong";
import { ACCESS } from "./words";

interface ServiceWritten {
  title: string;
  description: string;
  owner: string;
  documentation: string;
  access: Access;
  /** Null: all teams see it. */
  teams: readonly string[] | null;
}

const SERVICE: Shape<ServiceWritten> = {
  kind: "route",
  read: (source) => {
    const service = (source["service"] ?? {}) as Partial<ServiceText>;
    return {
      title: service.title ?? "",
      description: service.description ?? "",
      owner: service.owner ?? "",
      documentation: service.documentation ?? "",
      access: service.access ?? "approval",
      teams: service.teams ?? null,
    };
  },
  wanted: ({ title, description, owner, documentation, access, teams }) => ({
    service: {
      title: title.trim() || null,
      description: description.trim() || null,
      owner: owner.trim() || null,
      documentation: documentation.trim() || null,
      access,
      teams: teams && [...teams],
    },
  }),
};

export function ServiceForm({ route, close }: { route: Route; close: () => void }) {
  const queries = useQueryClient();
  return (
    <EditForm
      shape={SERVICE}
      thing={route}
      title={t`Service ${route.name}`}
      deed={t`Save the service`}
      save={(version, patch) => changeRoute(route.name, version, patch)}
      reread={() => queries.fetchQuery({ ...routeQuery(route.name), staleTime: 0 })}
      shown={[["routes"], ["catalogue"]]}
      complete={() => true}
      close={close}
    >
      {(written, change) => <ServiceFields written={written} change={change} />}
    </EditForm>
  );
}

function ServiceFields({ written, change }: { written: ServiceWritten; change: (part: Partial<ServiceWritten>) => void }) {
  const known = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const wrong = useWrong();
  const { access, teams } = written;
  return (
    <>
      <TextInput label={t`Title`} description={t`Left empty: the route's name`} value={written.title} maxLength={120} onChange={(event) => change({ title: event.currentTarget.value })} error={wrong("service.title")} data-autofocus />
      <Textarea
        label={t`Description`}
        description={t`What it is for, and what it is not for`}
        autosize
        minRows={3}
        maxRows={10}
        value={written.description}
        maxLength={4000}
        onChange={(event) => change({ description: event.currentTarget.value })}
        error={wrong("service.description")}
      />
      <TextInput
        label={t`Owner`}
        description={t`A name, a channel, or an e-mail address, which then hears of requests`}
        value={written.owner}
        maxLength={255}
        onChange={(event) => change({ owner: event.currentTarget.value })}
        error={wrong("service.owner")}
      />
      <TextInput label={t`Documentation`} description={t`Where to read more`} value={written.documentation} placeholder="https://wiki.example.com/chat" onChange={(event) => change({ documentation: event.currentTarget.value })} error={wrong("service.documentation")} />
      <Select label={t`Access`} description={ACCESS[access].why} data={Object.entries(ACCESS).map(([value, { label }]) => ({ value, label }))} value={access} allowDeselect={false} onChange={(chosen) => change({ access: chosen as Access })} />
      <Switch label={t`All teams see it in the catalogue`} checked={teams === null} onChange={(event) => change({ teams: event.currentTarget.checked ? null : [] })} />
      {teams === null ? null : (
        <MultiSelect label={t`Teams that see it`} description={t`Beside those whose apps may call it`} data={[...new Set([...known, ...teams])]} value={[...teams]} onChange={(chosen) => change({ teams: chosen })} searchable clearable error={wrong("service.teams")} />
      )}
    </>
  );
}

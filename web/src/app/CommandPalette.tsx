/** ⌘K: go to any page, app, team, route, provider or limit by its name; `/` opens it too. */
import { t } from "@lingui/core/macro";
import "@mantine/spotlight/styles.css";
import { Spotlight, spotlight, type SpotlightActionGroupData } from "@mantine/spotlight";
import { IconSearch, IconShieldLock } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useEffect } from "react";
import { sessionQuery, useMay } from "@/api/session";
import { appsQuery, teamsQuery } from "@/features/apps/queries";
import { limitsQuery } from "@/features/limits/queries";
import { providersQuery } from "@/features/providers/queries";
import { routesQuery } from "@/features/routes/queries";
import { DEEDS, entriesFor } from "./entries";

/** `asked` counts how often it was asked for: each time it opens. */
export default function CommandPalette({ asked }: { asked: number }) {
  const may = useMay();
  const session = useQuery(sessionQuery).data;
  const navigate = useNavigate();
  const services = may("services:read");
  const routes = useQuery({ ...routesQuery, enabled: services }).data ?? [];
  const apps = useQuery({ ...appsQuery, enabled: services }).data ?? [];
  const teams = useQuery({ ...teamsQuery, enabled: services && session?.team === null }).data ?? [];
  const limits = useQuery({ ...limitsQuery, enabled: services }).data ?? [];
  const providers = useQuery({ ...providersQuery, enabled: may("configuration:read") }).data ?? [];

  useEffect(() => spotlight.open(), [asked]);

  const groups: SpotlightActionGroupData[] = [
    {
      group: t`Pages`,
      actions: [
        ...entriesFor(may, session?.role).map(({ to, label, icon: Icon }) => ({
          id: to,
          label,
          leftSection: <Icon size={16} stroke={1.7} />,
          onClick: () => void navigate({ to }),
        })),
        { id: "/account", label: t`Account`, leftSection: <IconShieldLock size={16} stroke={1.7} />, onClick: () => void navigate({ to: "/account" }) },
      ],
    },
    {
      group: t`Commands`,
      actions: DEEDS.filter((deed) => may(deed.needs)).map(({ to, label, icon: Icon, add }) => ({
        id: `do ${to}`,
        label,
        leftSection: <Icon size={16} stroke={1.7} />,
        onClick: () => void navigate({ to, search: add ? { add: true } : {} }),
      })),
    },
    {
      group: t`Apps`,
      actions: apps.map(({ name, team }) => ({
        id: `app ${name}`,
        label: name,
        description: t`App of ${team}`,
        onClick: () => void navigate({ to: "/apps/$name", params: { name } }),
      })),
    },
    {
      group: t`Teams`,
      actions: teams.map(({ name }) => ({ id: `team ${name}`, label: name, description: t`Team`, onClick: () => void navigate({ to: "/teams/$name", params: { name } }) })),
    },
    {
      group: t`Routes`,
      actions: routes.map(({ name }) => ({ id: `route ${name}`, label: name, onClick: () => void navigate({ to: "/routes/$name", params: { name } }) })),
    },
    {
      group: t`Providers`,
      actions: providers.map(({ name }) => ({ id: `provider ${name}`, label: name, onClick: () => void navigate({ to: "/providers/$name", params: { name } }) })),
    },
    {
      group: t`Limits`,
      actions: limits.map(({ name }) => ({ id: `limit ${name}`, label: name, onClick: () => void navigate({ to: "/limits/$name", params: { name } }) })),
    },
  ].filter((group) => group.actions.length > 0);

  return (
    <Spotlight
      actions={groups}
      shortcut={null}
      attributes={{ content: { "aria-label": t`Search and commands` } }}
      limit={8}
      scrollable
      lockScroll={false}
      highlightQuery
      nothingFound={t`Nothing has this name`}
      transitionProps={{ duration: 120 }}
      searchProps={{ leftSection: <IconSearch size={17} />, placeholder: t`Go to a page, app, route, provider or limit`, "aria-label": t`Search` }}
    />
  );
}

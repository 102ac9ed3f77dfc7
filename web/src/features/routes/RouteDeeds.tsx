/** What can be done with a route: edit it, ask what it would do, remove it. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconHelpHexagon } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import type { Route } from "@/api/model";
import { useMay } from "@/api/session";
import { appsQuery } from "@/features/apps/queries";
import { Deeds } from "@/features/publish/Deeds";
import { draftRemoval } from "@/features/publish/queries";
import { Confirm } from "@/ui/Confirm";
import { removeRoute, routesQuery } from "./queries";
import { RouteEditForm } from "./RouteForm";

export function RouteDeeds({ route }: { route: Route }) {
  const may = useMay()("configuration:write");
  const navigate = useNavigate();
  return (
    <Deeds kind="route" name={route.name} may={may} edit={(close) => <RouteEditForm route={route} close={close} />} remove={(close) => <RemoveRoute route={route} close={close} />}>
      <Button size="xs" variant="default" leftSection={<IconHelpHexagon size={15} />} onClick={() => void navigate({ to: "/explain", search: { route: route.name } })}>
        <Trans>What would happen to a request?</Trans>
      </Button>
    </Deeds>
  );
}

function RemoveRoute({ route, close }: { route: Route; close: () => void }) {
  const apps = useQuery(appsQuery).data?.filter((app) => Array.isArray(app.routes) && app.routes.includes(route.name)) ?? [];
  const queries = useQueryClient();
  const navigate = useNavigate();
  const names = apps.map((app) => app.name).join(", ");
  return (
    <Confirm
      title={t`Remove ${route.name}?`}
      consequence={
        <>
          <p>
            <Trans>Calls that ask for it get 404 within a second. Limits that name it go with it; its rows in the ledger stay.</Trans>
          </p>
          {apps.length > 0 ? <p>{plural(apps.length, { one: `# app names it, and must let go of it first: ${names}.`, other: `# apps name it, and must let go of it first: ${names}.` })}</p> : null}
        </>
      }
      deed={t`Remove ${route.name}`}
      draft={() => draftRemoval("route", route.name)}
      act={async () => {
        await removeRoute(route.name);
        await navigate({ to: "/routes" }); // first: its drawer would ask for what is gone
        await queries.invalidateQueries({ queryKey: routesQuery.queryKey, exact: true });
      }}
      close={close}
    />
  );
}

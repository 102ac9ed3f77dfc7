/** What can be done with a route: change it, ask what it would do, remove it. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconHelpHexagon, IconPencil, IconTrash } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Route } from "@/api/model";
import { useMay } from "@/api/session";
import { appsQuery } from "@/features/apps/queries";
import { draftEntryQuery, draftQuery, draftRemoval } from "@/features/publish/queries";
import { Confirm } from "@/ui/Confirm";
import { removeRoute, routesQuery } from "./queries";
import { RouteEditForm } from "./RouteForm";
import styles from "./routes.module.css";

export function RouteDeeds({ route }: { route: Route }) {
  const may = useMay();
  const canChange = may("configuration:write");
  const [doing, setDoing] = useState<"change" | "remove" | undefined>();
  const navigate = useNavigate();
  return (
    <>
      <div className={styles.deeds}>
        {canChange ? (
          <Button size="xs" leftSection={<IconPencil size={15} />} onClick={() => setDoing("change")}>
            <Trans>Change</Trans>
          </Button>
        ) : null}
        <Button size="xs" variant="default" leftSection={<IconHelpHexagon size={15} />} onClick={() => void navigate({ to: "/explain", search: { route: route.name } })}>
          <Trans>What would happen to a request?</Trans>
        </Button>
        {canChange ? (
          <Button size="xs" variant="default" leftSection={<IconTrash size={15} />} onClick={() => setDoing("remove")}>
            <Trans>Remove</Trans>
          </Button>
        ) : null}
      </div>
      {canChange ? <DraftNote route={route} /> : null}
      {doing === "change" ? <RouteEditForm route={route} close={() => setDoing(undefined)} /> : null}
      {doing === "remove" ? <RemoveRoute route={route} close={() => setDoing(undefined)} /> : null}
    </>
  );
}

function DraftNote({ route }: { route: Route }) {
  const draft = useQuery(draftQuery).data;
  const entry = useQuery({ ...draftEntryQuery("route", route.name), enabled: draft?.exists === true }).data;
  if (!draft?.exists || !entry?.drafted) return null;
  return (
    <p className={styles.how}>
      {entry.entry === null ? <Trans>The draft removes this route.</Trans> : <Trans>The draft changes this route.</Trans>}{" "}
      <Link to="/publish" className={styles.noted ?? ""}>
        <Trans>Review and publish</Trans>
      </Link>
    </p>
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
        await queries.invalidateQueries({ queryKey: routesQuery.queryKey, exact: true });
        await navigate({ to: "/routes" });
      }}
      close={close}
    />
  );
}

/** In a route's drawer: what app teams read of it, who sees it and who may ask for it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Route } from "@/api/model";
import { useMay } from "@/api/session";
import { Facts, Part } from "@/ui/Drawer";
import { ServiceForm } from "./ServiceForm";
import { ACCESS } from "./words";

export function ServicePart({ route }: { route: Route }) {
  const may = useMay();
  const [changing, setChanging] = useState(false);
  const { title, owner, access, teams } = route.service;
  return (
    <Part title={t`Service for app teams`}>
      <Facts
        facts={[
          [
            t`In the catalogue`,
            <Link key="c" to="/catalogue/$name" params={{ name: route.name }}>
              {title ?? route.name}
            </Link>,
          ],
          [t`Owner`, owner ?? t`not named`],
          [t`Shown to`, teams === null ? t`all teams` : teams.length > 0 ? teams.join(", ") : t`teams whose apps may call it`],
          [t`Access`, `${ACCESS[access].label}: ${ACCESS[access].why}`],
        ]}
      />
      {may("configuration:write") ? (
        <Button mt={8} variant="default" size="xs" onClick={() => setChanging(true)}>
          <Trans>Edit the service</Trans>
        </Button>
      ) : null}
      {changing ? <ServiceForm route={route} close={() => setChanging(false)} /> : null}
    </Part>
  );
}

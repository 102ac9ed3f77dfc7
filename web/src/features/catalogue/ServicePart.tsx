/** In a route's drawer: what app teams read of it, who sees it and who may ask for it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group } from "@mantine/core";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { Route } from "@/api/model";
import { useMay } from "@/api/session";
import { Facts, Part } from "@/ui/Drawer";
import { OpenApiForm } from "./OpenApiForm";
import { ServiceForm } from "./ServiceForm";
import { ACCESS } from "./words";

export function ServicePart({ route }: { route: Route }) {
  const may = useMay();
  const [open, setOpen] = useState<"service" | "openapi">();
  const close = (): void => setOpen(undefined);
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
        <Group gap="xs" mt={8}>
          <Button variant="default" size="xs" onClick={() => setOpen("service")}>
            <Trans>Edit the service</Trans>
          </Button>
          {route.match ? (
            <Button variant="default" size="xs" onClick={() => setOpen("openapi")}>
              <Trans>Upload an OpenAPI document</Trans>
            </Button>
          ) : null}
        </Group>
      ) : null}
      {open === "service" ? <ServiceForm route={route} close={close} /> : null}
      {open === "openapi" ? <OpenApiForm route={route.name} close={close} /> : null}
    </Part>
  );
}

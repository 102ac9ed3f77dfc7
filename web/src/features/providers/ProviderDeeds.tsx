/** What can be done with a provider: change it, remove it. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPencil, IconTrash } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { Provider, Route } from "@/api/model";
import { draftRemoval } from "@/features/publish/queries";
import { Confirm } from "@/ui/Confirm";
import { ProviderEditForm } from "./ProviderEditForm";
import styles from "./providers.module.css";
import { providersQuery, removeProvider } from "./queries";

export function ProviderDeeds({ provider, routes }: { provider: Provider; routes: readonly Route[] }) {
  const [doing, setDoing] = useState<"change" | "remove" | undefined>();
  const queries = useQueryClient();
  const navigate = useNavigate();
  const names = routes.map((route) => route.name).join(", ");
  return (
    <>
      <div className={styles.deeds}>
        <Button size="xs" leftSection={<IconPencil size={15} />} onClick={() => setDoing("change")}>
          <Trans>Change</Trans>
        </Button>
        <Button size="xs" variant="default" leftSection={<IconTrash size={15} />} onClick={() => setDoing("remove")}>
          <Trans>Remove</Trans>
        </Button>
      </div>
      {doing === "change" ? <ProviderEditForm provider={provider} close={() => setDoing(undefined)} /> : null}
      {doing === "remove" ? (
        <Confirm
          title={t`Remove ${provider.name}?`}
          consequence={
            <>
              <p>{plural(provider.credentials.length, { one: "# sealed credential is deleted with it, and the prices and limits that name it.", other: "# sealed credentials are deleted with it, and the prices and limits that name it." })}</p>
              {routes.length > 0 ? <p>{plural(routes.length, { one: `# route uses it, and must let go of it first: ${names}.`, other: `# routes use it, and must let go of it first: ${names}.` })}</p> : null}
            </>
          }
          deed={t`Remove ${provider.name}`}
          draft={() => draftRemoval("provider", provider.name)}
          act={async () => {
            await removeProvider(provider.name);
            await queries.invalidateQueries({ queryKey: providersQuery.queryKey, exact: true });
            await navigate({ to: "/providers" });
          }}
          close={() => setDoing(undefined)}
        />
      ) : null}
    </>
  );
}

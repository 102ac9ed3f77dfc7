/** What can be done with a provider: edit it, remove it. */
import { plural, t } from "@lingui/core/macro";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import type { Provider, Route } from "@/api/model";
import { Deeds } from "@/features/publish/Deeds";
import { draftRemoval } from "@/features/publish/queries";
import { Confirm } from "@/ui/Confirm";
import { ProviderEditForm } from "./ProviderEditForm";
import { providersQuery, removeProvider } from "./queries";

export function ProviderDeeds({ provider, routes }: { provider: Provider; routes: readonly Route[] }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const names = routes.map((route) => route.name).join(", ");
  return (
    <Deeds
      kind="provider"
      name={provider.name}
      may
      edit={(close) => <ProviderEditForm provider={provider} close={close} />}
      remove={(close) => (
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
            await navigate({ to: "/providers" }); // first: its drawer would ask for what is gone
            await queries.invalidateQueries({ queryKey: providersQuery.queryKey, exact: true });
          }}
          close={close}
        />
      )}
    />
  );
}

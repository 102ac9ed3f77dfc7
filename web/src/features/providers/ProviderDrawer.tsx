/** One provider: its address, its credentials (never their values), the routes that use it. */
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { Provider } from "@/api/model";
import { routesQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Id } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Unknown, When } from "@/ui/Figure";
import { providerQuery } from "./queries";

export function ProviderDrawer() {
  const { name } = useParams({ from: "/frame/providers/$name" });
  const navigate = useNavigate();
  const provider = useQuery(providerQuery(name));
  const close = useCallback(() => void navigate({ to: "/providers" }), [navigate]);
  return (
    <Drawer title={name} label={`Provider ${name}`} close={close}>
      {provider.error ? <Problem error={provider.error} again={() => void provider.refetch()} /> : null}
      {provider.data ? <Details provider={provider.data} /> : provider.error ? null : <Skeleton height={240} />}
    </Drawer>
  );
}

function Details({ provider }: { provider: Provider }) {
  const routes = useQuery(routesQuery).data?.filter((route) => route.targets.some((target) => target.provider === provider.name));
  return (
    <>
      <Part title="Account">
        <Facts
          facts={[
            ["Dialect", provider.dialect],
            ["Address", <Id key="base" text={provider.base_url} what="address" />],
            ["Changed", <When key="changed" at={provider.updated_at} />],
          ]}
        />
      </Part>
      <Part title="Credentials, sealed: their values are never shown again">
        {provider.credentials.length === 0 ? (
          <p>None: requests go to it without a credential of ours.</p>
        ) : (
          <Facts
            facts={provider.credentials.map((credential) => [
              credential.name,
              credential.last_four ? <code key="four">…{credential.last_four}</code> : <Unknown key="four" why="the secret is too short to show any of it" />,
            ])}
          />
        )}
      </Part>
      <Part title="Routes that use it">
        {routes?.length === 0 ? <p>None: nothing reaches this provider.</p> : null}
        {routes?.map((route) => (
          <div key={route.id}>
            <Link to="/routes/$name" params={{ name: route.name }}>
              {route.name}
            </Link>
          </div>
        ))}
      </Part>
    </>
  );
}

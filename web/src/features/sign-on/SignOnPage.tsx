/** How people come in: by which identity providers, which group as what, and who is put there by a directory (SCIM). */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import type { SignOnProvider } from "@/api/model";
import { useMay } from "@/api/session";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Page, Section } from "@/ui/Page";
import { ProviderForm } from "./ProviderForm";
import { signOnProvidersQuery } from "./queries";
import { Rules } from "./Rules";
import { Scim } from "./Scim";

const COLUMNS: readonly Column<SignOnProvider>[] = [
  {
    id: "label",
    header: t`Provider`,
    sortBy: (provider) => provider.label,
    cell: (provider) => (
      <Link to="/sign-on/$name" params={{ name: provider.name }} search={(old) => old}>
        {provider.label}
      </Link>
    ),
  },
  { id: "issuer", header: t`Issuer`, hide: "phone", cell: (provider) => <code title={provider.issuer}>{provider.issuer}</code> },
  { id: "claim", header: t`Groups from`, hide: "tablet", cell: (provider) => <code>{provider.groups_claim}</code> },
  { id: "users", header: t`Users`, number: true, cell: (provider) => <Count n={provider.users} unit={t`users have come by it`} /> },
  { id: "state", header: t`State`, width: "110px", cell: (provider) => (provider.enabled ? <Mark tone="ok">{t`On`}</Mark> : <Mark tone="idle">{t`Off`}</Mark>) },
];

export function SignOnPage() {
  const providers = useQuery(signOnProvidersQuery);
  const mayChange = useMay()("sign-on:write");
  const [adding, setAdding] = useState(false);
  const navigate = useNavigate();
  const openName = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((provider: SignOnProvider) => void navigate({ to: "/sign-on/$name", params: { name: provider.name }, search: (old) => old }), [navigate]);
  const add = (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setAdding(true)}>
      <Trans>Add a provider</Trans>
    </Button>
  );
  return (
    <Page
      title={t`Sign-on`}
      line={mayChange ? t`How people come in: by which providers, and which of their groups as what.` : t`How people come in. Only an owner changes it: who says which group is an owner could be one.`}
      {...(mayChange ? { action: add } : {})}
    >
      <Section title={t`Identity providers`}>
        <DataTable
          label={t`Identity providers`}
          columns={COLUMNS}
          rows={providers.data}
          rowId={(provider) => provider.name}
          error={providers.error}
          again={() => void providers.refetch()}
          open={open}
          openId={openName}
          empty={
            <Empty
              title={t`No identity provider`}
              why={t`With one (Entra ID, Okta, Keycloak, Google, any OpenID provider) people sign in by the account that they have, and groups decide what they may. Until then everybody has a user of their own here.`}
              {...(mayChange ? { action: add } : {})}
            />
          }
        />
      </Section>
      <Rules mayChange={mayChange} />
      <Scim mayChange={mayChange} />
      {adding ? <ProviderForm close={() => setAdding(false)} done={(made) => open(made)} /> : null}
      <Outlet />
    </Page>
  );
}

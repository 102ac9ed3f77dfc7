/** Accounts at vendors and plain upstreams, and what went to each. */
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo, useState } from "react";
import { useRange } from "@/app/range";
import type { Provider, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { plural } from "@/units/count";
import { ProviderForm } from "./ProviderForm";
import { providersQuery } from "./queries";

export function ProvidersPage() {
  const providers = useQuery(providersQuery);
  const usage = useQuery(usageQuery("provider", useRange()));
  const [making, setMaking] = useState(false);
  const may = useMay();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((provider: Provider) => void navigate({ to: "/providers/$name", params: { name: provider.name } }), [navigate]);
  const columns = useMemo(() => columnsWith(usage.data), [usage.data]);
  const make = may("configuration:write") ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      Add a provider
    </Button>
  ) : null;
  return (
    <Page title="Providers" line="Accounts at vendors and plain HTTP upstreams, with the credentials that the gateway spends for its apps." action={make}>
      <DataTable
        label="Providers"
        columns={columns}
        rows={providers.data}
        rowId={(provider) => provider.name}
        error={providers.error}
        again={() => void providers.refetch()}
        open={open}
        openId={openId}
        empty={<Empty title="No providers" why="A provider is an account at a vendor: its address, its dialect and its credentials. Routes point at it." action={make} snippet={example} />}
      />
      {making ? <ProviderForm close={() => setMaking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

function columnsWith(usage: readonly UsageItem[] | undefined): readonly Column<Provider>[] {
  const of = (provider: Provider) => usage?.find((item) => item.provider === provider.name);
  const quiet = usage ? "no requests in this range" : "loading";
  return [
    {
      id: "name",
      header: "Provider",
      sortBy: (provider) => provider.name,
      cell: (provider) => (
        <Link to="/providers/$name" params={{ name: provider.name }}>
          {provider.name}
        </Link>
      ),
    },
    { id: "dialect", header: "Dialect", sortBy: (provider) => provider.dialect, cell: (provider) => provider.dialect },
    { id: "base", header: "Address", hide: "phone", cell: (provider) => <code>{provider.base_url}</code> },
    { id: "credentials", header: "Credentials", hide: "tablet", cell: (provider) => (provider.credentials.length === 0 ? "none" : plural(provider.credentials.length, "credential")) },
    { id: "requests", header: "Requests", number: true, sortBy: (provider) => of(provider)?.requests ?? 0, cell: (provider) => <Count n={of(provider)?.requests} unit="requests" why={quiet} /> },
    {
      id: "spend",
      header: "Spend",
      number: true,
      hide: "phone",
      sortBy: (provider) => of(provider)?.cost_usd_micros ?? 0,
      cell: (provider) => <Spend of={of(provider)} why={quiet} />,
    },
  ];
}

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
providers:
  - {name: openai, dialect: openai, base_url: https://api.openai.com/v1,
     credentials: [{name: main, value: "\${OPENAI_API_KEY}"}]}`;

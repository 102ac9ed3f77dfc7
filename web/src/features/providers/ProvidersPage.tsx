/** Accounts at vendors and plain upstreams, and what went to each. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { useAdding } from "@/app/adding";
import { useRange } from "@/app/range";
import type { Provider, UsageItem } from "@/api/model";
import { useMay } from "@/api/session";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { whyNone } from "@/features/overview/words";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Page } from "@/ui/Page";
import { ProviderForm } from "./ProviderForm";
import { healthQuery, providersQuery } from "./queries";

export function ProvidersPage() {
  const providers = useQuery(providersQuery);
  const usage = useQuery(usageQuery("provider", useRange()));
  const [making, setMaking] = useAdding();
  const may = useMay();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback((provider: Provider) => void navigate({ to: "/providers/$name", params: { name: provider.name } }), [navigate]);
  const quiet = whyNone(usage);
  const columns = useMemo(() => columnsWith(usage.data, quiet), [usage.data, quiet]);
  const make = may("configuration:write") ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      <Trans>Add a provider</Trans>
    </Button>
  ) : null;
  return (
    <Page title={t`Providers`} line={t`Accounts at vendors and plain HTTP upstreams, with the credentials that the gateway spends for its apps.`} action={make}>
      <DataTable
        label={t`Providers`}
        columns={columns}
        rows={providers.data}
        rowId={(provider) => provider.name}
        error={providers.error}
        again={() => void providers.refetch()}
        open={open}
        openId={openId}
        empty={<Empty title={t`No providers`} why={t`A provider is an account at a vendor: its address, its dialect and its credentials. Routes point at it.`} action={make} snippet={example} />}
      />
      {making && make ? <ProviderForm close={() => setMaking(false)} /> : null}
      <Outlet />
    </Page>
  );
}

function columnsWith(usage: readonly UsageItem[] | undefined, quiet: string): readonly Column<Provider>[] {
  const of = (provider: Provider) => usage?.find((item) => item.provider === provider.name);
  return [
    {
      id: "name",
      header: t`Provider`,
      sortBy: (provider) => provider.name,
      cell: (provider) => (
        <Link to="/providers/$name" params={{ name: provider.name }}>
          {provider.name}
        </Link>
      ),
    },
    { id: "dialect", header: t`Dialect`, sortBy: (provider) => provider.dialect, cell: (provider) => provider.dialect },
    { id: "base", header: t`Address`, hide: "phone", cell: (provider) => <code>{provider.base_url}</code> },
    { id: "credentials", header: t`Credentials`, hide: "tablet", cell: (provider) => (provider.credentials.length === 0 ? t`none` : plural(provider.credentials.length, { one: "# credential", other: "# credentials" })) },
    { id: "state", header: t`State`, cell: (provider) => <ProviderState provider={provider} /> },
    { id: "requests", header: t`Requests`, number: true, sortBy: (provider) => of(provider)?.requests ?? 0, cell: (provider) => <Count n={of(provider)?.requests} unit={t`requests`} why={quiet} /> },
    {
      id: "spend",
      header: t`Spend`,
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

/** What checks and workers have found, the worst first. */
function ProviderState({ provider }: { provider: Provider }) {
  const health = useQuery(healthQuery);
  if (!health.data) return <Unknown why={health.error?.message ?? t`loading`} />;
  const checked = health.data.providers.find((each) => each.provider === provider.name);
  const workers = health.data.workers;
  const aside = new Set(workers.flatMap((worker) => worker.aside.filter((each) => each.provider === provider.name).map((each) => each.credential)));
  const cooling = workers.some((worker) => worker.cooling.some((target) => target === provider.name || target.startsWith(`${provider.name}/`)));
  if (checked && !checked.healthy) return <Mark tone="bad" title={checked.reason}>{t`Down`}</Mark>;
  if (cooling) return <Mark tone="warn" title={t`After failures in a row, or as it asked, a worker sends elsewhere while there is another target`}>{t`Cooling`}</Mark>;
  if (aside.size > 0) return <Mark tone="warn" title={[...aside].join(", ")}>{plural(aside.size, { one: "# key set aside", other: "# keys set aside" })}</Mark>;
  return checked ? <Mark tone="ok">{t`Healthy`}</Mark> : <span title={t`It is not checked by itself; no worker avoids it`}>{t`no complaint`}</span>;
}

/** What models cost here: the price in force for what is used, overrides, and the built-in table. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, SegmentedControl, Select, TextInput } from "@mantine/core";
import { IconPlus, IconSearch } from "@tabler/icons-react";
import { useInfiniteQuery, useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useEffect, useMemo, useState, type ReactNode } from "react";
import { useRange } from "@/app/range";
import { useMay } from "@/api/session";
import { usageQuery } from "@/features/overview/queries";
import { draftRemoval } from "@/features/publish/queries";
import { Empty } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { DataTable, type Column } from "@/ui/DataTable";
import { Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { Page } from "@/ui/Page";
import { exact } from "@/units/count";
import { PriceForm } from "./PriceForm";
import { priceUseQuery, pricesQuery, removePrice, tableQuery, type Figures, type Price, type PriceUse, type TableEntry } from "./queries";
import styles from "./prices.module.css";

type Wanted = { price?: Price; provider?: string; model?: string };

export function PricesPage() {
  const { show = "used" } = useSearch({ from: "/frame/prices" });
  const navigate = useNavigate();
  const may = useMay();
  const [form, setForm] = useState<Wanted | undefined>();
  const canChange = may("configuration:write");
  const add = canChange ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setForm({})}>
      <Trans>Set a price</Trans>
    </Button>
  ) : null;
  return (
    <Page title={t`Models & prices`} line={t`What tokens cost here. Budgets and the spend on every page are worked out from it.`} action={add} fill={show === "table"}>
      <SegmentedControl
        className={styles.choice ?? ""}
        aria-label={t`Which prices`}
        data={[
          { value: "used", label: t`In use` },
          { value: "overrides", label: t`Overrides` },
          { value: "table", label: t`Built-in table` },
        ]}
        value={show}
        onChange={(chosen) =>
          void navigate({ to: "/prices", search: (old) => ({ ...(old.range ? { range: old.range } : {}), ...(chosen === "used" ? {} : { show: chosen as "overrides" | "table" }) }) })
        }
      />
      {show === "used" ? <Used edit={canChange ? setForm : undefined} /> : null}
      {show === "overrides" ? <Overrides edit={canChange ? setForm : undefined} add={add} /> : null}
      {show === "table" ? <Table /> : null}
      {form ? <PriceForm {...form} close={() => setForm(undefined)} /> : null}
    </Page>
  );
}

/** Without figures where the ledger could not be asked. */
interface Use extends PriceUse {
  requests?: number | undefined;
  unpriced?: number | undefined;
}

/** The ledger's models without a price, beside the targets of routes. At most so many are asked about. */
const MOST_ALSO = 200;

function Used({ edit }: { edit: ((wanted: Wanted) => void) | undefined }) {
  const range = useRange();
  const usage = useQuery(usageQuery("provider,model", range));
  const overrides = useQuery(pricesQuery).data;
  const seen = useMemo(() => (usage.data ?? []).filter((each) => each.provider && each.model), [usage.data]);
  const also = useMemo(() => seen.filter((each) => each.unpriced > 0).map((each) => `${each.provider}/${each.model}`).slice(0, MOST_ALSO), [seen]);
  const use = useQuery({ ...priceUseQuery(also), enabled: usage.data !== undefined || usage.error !== null });
  const rows = useMemo(
    () =>
      use.data?.items.map((each): Use => {
        const item = seen.find((one) => one.provider === each.provider && one.model === each.model);
        return usage.data ? { ...each, requests: item?.requests ?? 0, unpriced: item?.unpriced ?? 0 } : each;
      }),
    [use.data, usage.data, seen],
  );
  const missing = rows?.filter((each) => each.source === "none") ?? [];
  const unpriced = missing.reduce((sum, each) => sum + (each.unpriced ?? 0), 0);
  const columns = useMemo(() => usedColumns(overrides, edit), [overrides, edit]);
  return (
    <>
      {missing.length > 0 ? (
        <Notice title={plural(missing.length, { one: "# model has no price", other: "# models have no price" })}>
          <p>
            {unpriced > 0
              ? plural(unpriced, {
                  one: "# request of this range used tokens whose cost nobody knows: no spend shows it. A limit on cost refuses such requests, unless it says otherwise.",
                  other: "# requests of this range used tokens whose cost nobody knows: no spend shows them. A limit on cost refuses such requests, unless it says otherwise.",
                })
              : t`Their cost will be unknown: no spend shows it. A limit on cost refuses such requests, unless it says otherwise.`}
          </p>
        </Notice>
      ) : null}
      <DataTable
        label={t`Prices in use`}
        columns={columns}
        rows={rows}
        rowId={(each) => `${each.provider}/${each.model}`}
        error={use.error ?? usage.error}
        again={() => void Promise.all([usage.refetch(), use.refetch()])}
        empty={
          <Empty
            title={t`No models`}
            why={t`Here stand the models that routes have as targets. No route has one yet.`}
            action={
              <Link to="/routes">
                <Trans>Go to Routes</Trans>
              </Link>
            }
            snippet={example}
          />
        }
      />
    </>
  );
}

const perMillion = (value: number | null | undefined, why: string) =>
  value === null || value === undefined ? <Unknown why={why} /> : <span title={t`${exact(value)} micro-USD per million tokens`}>{dollars(value)}</span>;
const dollars = (micros: number): string => `$${(micros / 1e6).toLocaleString("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 6 })}`;

function figureColumns<Row extends object>(of: (row: Row) => Figures | null, none: string): readonly Column<Row>[] {
  const parent = t`charged as its parent kind`;
  return [
    { id: "input", header: t`Input`, note: t`$ / M tokens`, number: true, sortBy: (row) => of(row)?.input ?? -1, cell: (row) => perMillion(of(row)?.input, none) },
    { id: "output", header: t`Output`, note: t`$ / M tokens`, number: true, sortBy: (row) => of(row)?.output ?? -1, cell: (row) => perMillion(of(row)?.output, none) },
    { id: "cached", header: t`Cached`, note: t`$ / M tokens`, number: true, hide: "tablet", sortBy: (row) => of(row)?.cached_input ?? -1, cell: (row) => perMillion(of(row)?.cached_input, of(row) ? parent : none) },
  ];
}

function usedColumns(overrides: readonly Price[] | undefined, edit: ((wanted: Wanted) => void) | undefined): readonly Column<Use>[] {
  return [
    { id: "model", header: t`Model`, sortBy: (each) => `${each.provider}/${each.model}`, cell: (each) => <code>{`${each.provider}/${each.model}`}</code> },
    {
      id: "routes",
      header: t`Routes`,
      hide: "tablet",
      cell: (each) =>
        each.routes.length === 0
          ? t`none: seen in the ledger`
          : each.routes.map((route, index) => (
              <span key={route}>
                {index > 0 ? ", " : ""}
                <Link to="/routes/$name" params={{ name: route }}>
                  {route}
                </Link>
              </span>
            )),
    },
    ...figureColumns<Use>((each) => each.price, t`no price is known`),
    {
      id: "source",
      header: t`From`,
      hide: "phone",
      sortBy: (each) => each.source,
      cell: (each) =>
        each.source === "none" ? (
          <Mark tone="warn">{t`No price`}</Mark>
        ) : each.source === "override" ? (
          <span title={t`Override ${each.override ?? ""}`}>{t`override`}</span>
        ) : (
          <span title={t`Built-in table: ${each.entry ?? ""}`}>{each.entry}</span>
        ),
    },
    { id: "unpriced", header: t`Unpriced`, note: t`requests`, number: true, hide: "phone", sortBy: (each) => each.unpriced ?? -1, cell: (each) => (each.unpriced === undefined ? <Unknown why={t`the ledger could not be asked`} /> : <span title={t`of ${exact(each.requests ?? 0)} in this range; what the ledger has stays as it is`}>{exact(each.unpriced)}</span>) },
    {
      id: "deed",
      header: "",
      width: "104px",
      cell: (each) => {
        if (!edit) return null;
        const override = overrides?.find((price) => price.name === each.override);
        const model = `${each.provider}/${each.model}`;
        return (
          <Button
            size="compact-xs"
            variant={each.source === "none" ? "filled" : "default"}
            onClick={() => edit(override ? { price: override } : { provider: each.provider, model: each.model })}
            aria-label={override ? t`Change the price of ${override.name}` : each.source === "none" ? t`Set price of ${model}` : t`Override the price of ${model}`}
          >
            {override ? <Trans>Change</Trans> : each.source === "none" ? <Trans>Set price</Trans> : <Trans>Override</Trans>}
          </Button>
        );
      },
    },
  ];
}

function Overrides({ edit, add }: { edit: ((wanted: Wanted) => void) | undefined; add: ReactNode }) {
  const prices = useQuery(pricesQuery);
  const use = useQuery(priceUseQuery([])).data?.items;
  const [removing, setRemoving] = useState<Price | undefined>();
  const queries = useQueryClient();
  const used = (price: Price): readonly PriceUse[] => use?.filter((each) => each.override === price.name) ?? [];
  const columns: readonly Column<Price>[] = [
    { id: "name", header: t`Model or pattern`, sortBy: (price) => price.name, cell: (price) => <code>{price.name}</code> },
    ...figureColumns<Price>((price) => price, ""),
    { id: "used", header: t`In force for`, hide: "phone", cell: (price) => (use ? used(price).map((each) => each.model).join(", ") || t`no target now` : "") },
    {
      id: "deed",
      header: "",
      width: "150px",
      cell: (price) =>
        edit ? (
          <>
            <Button size="compact-xs" variant="subtle" color="gray" onClick={() => edit({ price })} aria-label={t`Change the price of ${price.name}`}>
              <Trans>Change</Trans>
            </Button>
            <Button size="compact-xs" variant="subtle" color="red" onClick={() => setRemoving(price)} aria-label={t`Remove the price of ${price.name}`}>
              <Trans>Remove</Trans>
            </Button>
          </>
        ) : null,
    },
  ];
  return (
    <>
      <DataTable
        label={t`Price overrides`}
        columns={columns}
        rows={prices.data}
        rowId={(price) => price.name}
        error={prices.error}
        again={() => void prices.refetch()}
        empty={<Empty title={t`No overrides`} why={t`The built-in table prices the known vendors' models. An override prices what it does not know, or what you pay another price for.`} action={add} snippet={example} />}
      />
      {removing ? (
        <Confirm
          title={t`Remove the price of ${removing.name}?`}
          consequence={
            use === undefined
              ? t`Which targets' prices that changes is not known (yet).`
              : used(removing).length === 0
              ? t`No target's price changes.`
              : plural(used(removing).length, { one: "# target goes back to the built-in price, or has none.", other: "# targets go back to the built-in price, or have none." })
          }
          deed={t`Remove the price`}
          draft={() => draftRemoval("price", removing.name)}
          act={async () => {
            await removePrice(removing);
            await Promise.all([queries.invalidateQueries({ queryKey: ["prices"] }), queries.invalidateQueries({ queryKey: ["price-use"] })]);
          }}
          close={() => setRemoving(undefined)}
        />
      ) : null}
    </>
  );
}

function Table() {
  const { search = "", vendor } = useSearch({ from: "/frame/prices" });
  const navigate = useNavigate();
  const [written, setWritten] = useState(search);
  const table = useInfiniteQuery(tableQuery(search, vendor));
  const rows = useMemo(() => table.data?.pages.flatMap((page) => page.items), [table.data]);
  useEffect(() => {
    if (written === search) return;
    const timer = setTimeout(() => void navigate({ to: "/prices", search: (old) => ({ ...old, show: "table" as const, search: written.trim() || undefined }), replace: true }), 250);
    return () => clearTimeout(timer);
  }, [written, search, navigate]);
  return (
    <>
      <div className={styles.find}>
        <TextInput aria-label={t`Search the table`} placeholder={t`Model or vendor`} leftSection={<IconSearch size={15} />} value={written} onChange={(event) => setWritten(event.currentTarget.value)} />
        <Select
          aria-label={t`Vendor`}
          placeholder={t`All vendors`}
          data={VENDORS}
          value={vendor ?? null}
          clearable
          clearButtonProps={{ "aria-label": t`All vendors` }}
          onChange={(chosen) => void navigate({ to: "/prices", search: (old) => ({ ...old, show: "table" as const, vendor: chosen ?? undefined }), replace: true })}
          searchable
        />
      </div>
      <DataTable
        label={t`Built-in prices`}
        columns={TABLE_COLUMNS}
        rows={rows}
        rowId={(each) => `${each.vendor}/${each.model}`}
        error={table.error}
        again={() => void table.refetch()}
        more={table.hasNextPage ? () => void table.fetchNextPage() : undefined}
        loadingMore={table.isFetchingNextPage}
        fill
        empty={<Empty title={t`Nothing of this name`} why={t`The table prices what vendors publish. An override prices anything else.`} snippet="sluicegate prices update data.json" />}
      />
    </>
  );
}

/** Of the table: those that most people look for; any other is found by its name in the search. */
const VENDORS = ["anthropic", "aws", "azure", "cohere", "deepseek", "fireworks", "google", "groq", "mistral", "openai", "openrouter", "perplexity", "together", "x-ai"];

const TABLE_COLUMNS: readonly Column<TableEntry>[] = [
  { id: "vendor", header: t`Vendor`, hide: "phone", cell: (each) => each.vendor_name },
  {
    id: "model",
    header: t`Model`,
    cell: (each) => (
      <span>
        <code>{each.model}</code>
        {each.deprecated ? <span className={styles.aside}>{t`deprecated`}</span> : null}
        {each.tiered ? <span className={styles.aside} title={t`It costs more from some number of input tokens on; the base tier is what is charged here`}>{t`tiered`}</span> : null}
      </span>
    ),
  },
  ...figureColumns<TableEntry>((each) => each.price, "").map(({ sortBy: _, ...column }) => column),
  { id: "context", header: t`Context`, note: t`tokens`, number: true, hide: "tablet", cell: (each) => (each.context_window === null ? <Unknown why={t`the table does not say`} /> : exact(each.context_window)) },
];

const example = `# sluicegate.yaml, then: sluicegate apply -f sluicegate.yaml
prices:                        # micro-USD per million tokens
  - {provider: local, model: "*", input: 100000, output: 400000}`;

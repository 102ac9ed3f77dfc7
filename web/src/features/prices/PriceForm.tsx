/** An override: what a model, or a pattern of models, of a provider costs. Dollars per million tokens, as vendors write them. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { NumberInput, Select, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { providersQuery } from "@/features/providers/queries";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog, Line } from "@/ui/FormDialog";
import { changePrice, makePrice, type Figures, type Price } from "./queries";

const MICRO = 1_000_000;

interface PriceFormProps {
  /** An override that is to be changed; else a new one, of this provider and model where they are known. */
  price?: Price | undefined;
  provider?: string | undefined;
  model?: string | undefined;
  close: () => void;
}

type Written = Readonly<Record<keyof Figures, number | string>>;

export function PriceForm({ price, provider: of = "", model: named = "*", close }: PriceFormProps) {
  const providers = useQuery(providersQuery).data?.map((each) => each.name) ?? [];
  const [provider, setProvider] = useState(price?.provider ?? of);
  const [model, setModel] = useState(price?.model ?? named);
  const [written, setWritten] = useState<Written>({
    input: usd(price?.input),
    output: usd(price?.output),
    cached_input: usd(price?.cached_input),
    cache_write: usd(price?.cache_write),
    reasoning: usd(price?.reasoning),
    per_request: usd(price?.per_request ?? 0),
  });
  const queries = useQueryClient();
  const figures: Figures = {
    input: micros(written.input) ?? 0,
    output: micros(written.output) ?? 0,
    cached_input: micros(written.cached_input),
    cache_write: micros(written.cache_write),
    reasoning: micros(written.reasoning),
    per_request: micros(written.per_request) ?? 0,
  };
  const name = `${provider}/${model.trim()}`;
  const field = (which: keyof Figures, label: string, placeholder = "") => (
    <NumberInput
      label={label}
      prefix="$"
      min={0}
      allowNegative={false}
      decimalScale={6}
      hideControls
      required={which === "input" || which === "output"}
      placeholder={placeholder}
      value={written[which]}
      onChange={(value) => setWritten({ ...written, [which]: value })}
    />
  );
  return (
    <FormDialog
      title={price ? t`Change the price of ${price.name}` : t`Set a price`}
      deed={price ? t`Change the price` : t`Set the price`}
      complete={provider !== "" && model.trim() !== "" && written.input !== "" && written.output !== ""}
      act={() => (price ? changePrice(price, figures) : makePrice({ provider, model: model.trim(), ...figures }))}
      draft={() => draftEntry("price", price?.name ?? name, { ...(price ? {} : { provider, model: model.trim() }), ...figures })}
      done={async () => {
        await Promise.all([queries.invalidateQueries({ queryKey: ["prices"] }), queries.invalidateQueries({ queryKey: ["price-use"] })]);
        close();
      }}
      close={close}
    >
      {price ? null : (
        <Line>
          <Select label={t`Provider`} required data={providers} value={provider || null} onChange={(chosen) => setProvider(chosen ?? "")} searchable />
          <TextInput label={t`Model`} required value={model} onChange={(event) => setModel(event.currentTarget.value)} title={t`A name, or a pattern: gpt-5* or *`} />
        </Line>
      )}
      <p style={{ margin: 0, fontSize: 13 }}>
        <Trans>US dollars per million tokens. It counts for requests that begin from now on; costs that are in the ledger stay.</Trans>
      </p>
      <Line>
        {field("input", t`Input`)}
        {field("output", t`Output`)}
      </Line>
      <Line>
        {field("cached_input", t`Cached input`, t`as input`)}
        {field("cache_write", t`Cache write`, t`as input`)}
        {field("reasoning", t`Reasoning`, t`as output`)}
      </Line>
      {field("per_request", t`For each request`)}
    </FormDialog>
  );
}

const usd = (value: number | null | undefined): number | string => (value === null || value === undefined ? "" : value / MICRO);
const micros = (value: number | string): number | null => (value === "" ? null : Math.round(Number(value) * MICRO));

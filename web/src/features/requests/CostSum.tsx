/** What a request cost as a sum that one can follow: tokens by kind, times the price of each. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery } from "@tanstack/react-query";
import type { LedgerRow } from "@/api/model";
import { useMay } from "@/api/session";
import { priceUseQuery, type Figures } from "@/features/prices/queries";
import { Count, Money } from "@/ui/Figure";
import { money, moneyExact } from "@/units/money";
import { costWhy, tokensWhy } from "./RequestsPage";
import styles from "./requests.module.css";

interface Item {
  name: string;
  tokens: number | null;
  /** Micro-USD a million tokens; null = no price is known. */
  price: number | null;
  always?: boolean;
}

const PER_MILLION = 1_000_000;

export function CostSum({ row }: { row: LedgerRow }) {
  const may = useMay();
  const uses = useQuery({ ...priceUseQuery(row.target ? [row.target] : []), enabled: row.target !== null && may("configuration:read") });
  const price = uses.data?.items.find((each) => `${each.provider}/${each.model}` === row.target)?.price ?? null;
  const items = itemsOf(row, price).filter(({ tokens, always }) => always || tokens !== null);
  const priced = price !== null && items.every((item) => item.tokens === null || item.price !== null);
  const sum = priced ? Math.floor((items.reduce((all, item) => all + (item.tokens ?? 0) * (item.price ?? 0), 0) + price.per_request * PER_MILLION + PER_MILLION / 2) / PER_MILLION) : null;
  const other = sum !== null && row.cost_usd_micros !== null && sum !== row.cost_usd_micros;
  return (
    <>
      <table className={styles.sum}>
        <thead>
          <tr>
            <th scope="col">{t`Tokens`}</th>
            <th scope="col">{t`Count`}</th>
            {price ? <th scope="col">{t`a million`}</th> : null}
            {price ? <th scope="col">{t`makes`}</th> : null}
          </tr>
        </thead>
        <tbody>
          {items.map((item) => (
            <tr key={item.name}>
              <th scope="row">{item.name}</th>
              <td>
                <Count n={item.tokens} unit={t`tokens`} estimated={row.estimated} why={tokensWhy(row)} />
              </td>
              {price ? <td>{item.price === null ? "—" : `× ${money(item.price)}`}</td> : null}
              {price ? <td title={item.price === null ? "" : moneyExact(((item.tokens ?? 0) * item.price) / PER_MILLION)}>{item.price === null || item.tokens === null ? "—" : money((item.tokens * item.price) / PER_MILLION)}</td> : null}
            </tr>
          ))}
          {price && price.per_request > 0 ? (
            <tr>
              <th scope="row">{t`The request itself`}</th>
              <td>1</td>
              <td />
              <td>{money(price.per_request)}</td>
            </tr>
          ) : null}
          {row.overrun > 0 ? (
            <tr>
              <th scope="row">{t`Beyond its own reservation`}</th>
              <td>
                <Count n={row.overrun} unit={t`tokens`} />
              </td>
              {price ? <td colSpan={2}>{t`counted above`}</td> : null}
            </tr>
          ) : null}
        </tbody>
        <tfoot>
          <tr>
            <th scope="row">{t`Charged`}</th>
            <td colSpan={price ? 3 : 1}>
              <Money micros={row.cost_usd_micros} estimated={row.estimated} why={costWhy(row)} />
            </td>
          </tr>
        </tfoot>
      </table>
      {other ? (
        <p className={styles.aside}>
          <Trans>The prices are those of now and would make {moneyExact(sum)}: others were in force then.</Trans>
        </p>
      ) : null}
    </>
  );
}

/** As the ledger adds up: cached and written tokens are part of the input, reasoning is part of the output. */
function itemsOf(row: LedgerRow, price: Figures | null): Item[] {
  const cached = row.cached_tokens ?? 0;
  const written = row.cache_write_tokens ?? 0;
  const reasoning = row.reasoning_tokens ?? 0;
  const of = (own: number | null | undefined, usual: number | undefined): number | null => own ?? usual ?? null;
  return [
    { name: t`Input`, tokens: row.input_tokens === null ? null : row.input_tokens - cached - written, price: of(price?.input, undefined), always: true },
    { name: t`Input, cached`, tokens: cached || null, price: of(price?.cached_input, price?.input) },
    { name: t`Input, written to cache`, tokens: written || null, price: of(price?.cache_write, price?.input) },
    { name: t`Output`, tokens: row.output_tokens === null ? null : row.output_tokens - reasoning, price: of(price?.output, undefined), always: true },
    { name: t`Output, reasoning`, tokens: reasoning || null, price: of(price?.reasoning, price?.output) },
  ];
}

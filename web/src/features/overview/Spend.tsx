/** The cost of many requests: what has no known price is said, never taken for nothing. */
import { plural, t } from "@lingui/core/macro";
import type { UsageItem } from "@/api/model";
import { Money, Unknown } from "@/ui/Figure";
import { money, moneyExact } from "@/units/money";

export function Spend({ of, why }: { of: Pick<UsageItem, "cost_usd_micros" | "unpriced"> | undefined; why: string }) {
  if (!of) return <Unknown why={why} />;
  if (of.unpriced === 0) return <Money micros={of.cost_usd_micros} />;
  const without = plural(of.unpriced, { one: "# request without a known price", other: "# requests without a known price" });
  if (of.cost_usd_micros === 0) return <Unknown why={without} />;
  return <span title={t`${moneyExact(of.cost_usd_micros)}, and ${without}`}>≥ {money(of.cost_usd_micros)}</span>;
}

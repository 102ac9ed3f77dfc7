/** The cost of many requests: what has no known price is said, never taken for nothing. */
import type { UsageItem } from "@/api/model";
import { Money, Unknown } from "@/ui/Figure";
import { plural } from "@/units/count";
import { money, moneyExact } from "@/units/money";

export function Spend({ of, why }: { of: Pick<UsageItem, "cost_usd_micros" | "unpriced"> | undefined; why: string }) {
  if (!of) return <Unknown why={why} />;
  if (of.unpriced === 0) return <Money micros={of.cost_usd_micros} />;
  const without = `${plural(of.unpriced, "request")} without a known price`;
  if (of.cost_usd_micros === 0) return <Unknown why={without} />;
  return <span title={`${moneyExact(of.cost_usd_micros)}, and ${without}`}>≥ {money(of.cost_usd_micros)}</span>;
}

/** Money is integer micro-USD everywhere but on the screen. */

const cents = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const fine = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 6 });

/** To the cent, as tables show it; below ten cents to a hundredth of a cent, below that to the micro-dollar. */
export function money(micros: number): string {
  const usd = micros / 1e6;
  if (usd === 0 || usd >= 0.1) return cents.format(usd);
  return `$${usd.toFixed(usd < 0.0001 ? 6 : 4)}`;
}

/** To the micro-dollar, for the hover. */
export function moneyExact(micros: number): string {
  return `${fine.format(micros / 1e6)} (${micros.toLocaleString("en-US")} micro-USD)`;
}

/** As few digits as an axis needs: $0, $0.02, $1.5, $120. */
export const moneyOnAxis = (micros: number): string => `$${(micros / 1e6).toLocaleString("en-US", { maximumSignificantDigits: 3 })}`;

/** Money is integer micro-USD everywhere but on the screen. */

const cents = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD" });
const fine = new Intl.NumberFormat("en-US", { style: "currency", currency: "USD", minimumFractionDigits: 2, maximumFractionDigits: 6 });

/** To the cent, as tables show it; what is more than nothing but less than a cent keeps two significant digits. */
export function money(micros: number): string {
  const usd = micros / 1e6;
  if (usd !== 0 && Math.abs(usd) < 0.01) {
    return `$${Number(usd.toPrecision(2)).toFixed(Math.min(6, 1 - Math.floor(Math.log10(Math.abs(usd)))))}`;
  }
  return cents.format(usd);
}

/** To the micro-dollar, for the hover. */
export function moneyExact(micros: number): string {
  return `${fine.format(micros / 1e6)} (${micros.toLocaleString("en-US")} micro-USD)`;
}

/** Counts, tokens, bytes and shares as people read them. */

/** 1,204 as it is; from ten thousand on 12.4 k, 3.1 M, 2.04 B. */
export function count(n: number): string {
  const size = Math.abs(n);
  if (size < 10_000) return n.toLocaleString("en-US");
  for (const [unit, symbol] of [[1e9, "B"], [1e6, "M"], [1e3, "k"]] as const) {
    if (size >= unit * 0.9995) return `${Number((n / unit).toPrecision(3))} ${symbol}`;
  }
  return n.toLocaleString("en-US");
}

export const exact = (n: number): string => n.toLocaleString("en-US");

/** A share of one, as per cent: 0.4 %, 12 %; a trace is "< 0.1 %", never 0, and "> 99 %" is not yet all. */
export function share(part: number): string {
  const percent = part * 100;
  if (percent === 0) return "0 %";
  if (percent < 0.1) return "< 0.1 %";
  if (percent > 99 && percent < 100) return "> 99 %";
  return `${percent < 10 ? percent.toFixed(1) : Math.round(percent)} %`;
}

/** 812 B, 1.2 KiB, 34 MiB: in powers of 1,024, two figures at least. */
export function bytes(n: number): string {
  if (n < 1024) return `${exact(Math.round(n))} B`;
  let size = n;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    size /= 1024;
    if (size < 1023.5 || unit === "TiB") return `${size < 99.5 ? Number(size.toPrecision(2)) : exact(Math.round(size))} ${unit}`;
  }
  return exact(n);
}

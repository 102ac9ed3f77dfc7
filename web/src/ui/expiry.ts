/** How long a new key or token lives. */
import { t } from "@lingui/core/macro";

export const EXPIRIES = [
  { value: "never", label: t`Never` },
  { value: "7", label: t`In 7 days` },
  { value: "30", label: t`In 30 days` },
  { value: "90", label: t`In 90 days` },
  { value: "365", label: t`In a year` },
] as const;

export type Expiry = (typeof EXPIRIES)[number]["value"];

export const expiryOf = (expiry: Expiry, nowMs: number): { expires_at?: string } =>
  expiry === "never" ? {} : { expires_at: new Date(nowMs + Number(expiry) * 86_400_000).toISOString() };

/** A provider as the form holds it: read from the API's views and from a draft's entries, which leave out what is as usual. */
import { t } from "@lingui/core/macro";
import type { Provider } from "@/api/model";
import type { Shape } from "@/features/publish/useEditing";
import { isReachComplete, reachOf, reachWanted, type ReachWritten } from "./reach";

export interface CredentialWritten {
  name: string;
  /** Empty: the stored secret stays. */
  value: string;
  stored: boolean;
}

export interface ProviderWritten extends ReachWritten {
  name: string;
  address: string;
  zone: string;
  tags: readonly string[];
  credentials: readonly CredentialWritten[];
}

/** Neither views nor entries hold a secret. */
function writtenOf(source: Readonly<Record<string, unknown>>): ProviderWritten {
  const provider = source as Partial<Pick<Provider, "name" | "base_url" | "zone" | "tags">> & { credentials?: readonly { name: string }[] };
  return {
    name: provider.name ?? "",
    address: provider.base_url ?? "",
    zone: provider.zone ?? "",
    tags: provider.tags ?? [],
    credentials: (provider.credentials ?? []).map(({ name }) => ({ name, value: "", stored: true })),
    ...reachOf(source),
  };
}

const wantedOf = (written: ProviderWritten) => ({
  name: written.name.trim(),
  base_url: written.address.trim(),
  zone: written.zone.trim() || null,
  tags: [...written.tags],
  credentials: written.credentials.map(({ name, value }) => ({ name: name.trim(), ...(value ? { value } : {}) })),
  ...reachWanted(written),
});

export const PROVIDER: Shape<ProviderWritten> = { kind: "provider", read: writtenOf, wanted: wantedOf, whole: ["proxy", "tls"], shown };

/** A secret as what it is. */
function shown(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(shown);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, below]) => [name, SECRETS.includes(name) && below ? t`another secret` : shown(below)]));
}

const SECRETS: readonly string[] = ["value", "password", "key"];

export const isComplete = (written: ProviderWritten): boolean =>
  written.name.trim() !== "" && written.address.trim() !== "" && written.credentials.every((each) => each.name.trim() !== "" && (each.stored || each.value !== "")) && isReachComplete(written);

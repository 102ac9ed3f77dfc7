/** An entry of the audit log in words. */
import { t } from "@lingui/core/macro";
import type { AuditEntry } from "@/api/model";
import { Mark, type Tone } from "@/ui/Mark";
import { sentence } from "@/units/words";

const TONES: Readonly<Record<string, Tone>> = { create: "ok", delete: "bad", "sign-in": "info", update: "idle", read: "info", erase: "bad" };

export function ActionMark({ action }: { action: string }) {
  return <Mark tone={TONES[action] ?? "idle"}>{sentence(action)}</Mark>;
}

/** `user:ann` → the kind of actor and its name. */
export function actorOf(actor: string): { kind: string; name: string } {
  const at = actor.indexOf(":");
  if (at < 0) return { kind: t`the gateway itself`, name: actor };
  const kinds: Readonly<Record<string, string>> = { user: t`user`, token: t`token`, cli: t`on the host` };
  const kind = actor.slice(0, at);
  return { kind: kinds[kind] ?? kind, name: actor.slice(at + 1) };
}

/** Why there is no address. */
export const noOrigin = (entry: AuditEntry): string =>
  entry.actor.startsWith("cli:") ? t`by a command on the gateway's host` : entry.actor === "system" ? t`by the gateway itself` : t`written before addresses were`;

export interface Difference {
  field: string;
  before: string | undefined;
  after: string | undefined;
}

/** What differs between before and after, field by field, in the order in which the fields stand. */
export function differences(before: Record<string, unknown> | null, after: Record<string, unknown> | null): readonly Difference[] {
  const names = [...new Set([...Object.keys(before ?? {}), ...Object.keys(after ?? {})])];
  return names
    .map((field) => ({ field, before: text(before, field), after: text(after, field) }))
    .filter((each) => each.before !== each.after);
}

function text(from: Record<string, unknown> | null, field: string): string | undefined {
  if (from === null || !(field in from)) return undefined;
  const value = from[field];
  return typeof value === "string" ? value : JSON.stringify(value, null, 1);
}

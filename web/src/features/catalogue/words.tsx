/** How services and access to them are called on the screen. */
import { plural, t } from "@lingui/core/macro";
import type { Access, Service, ServiceLimit, ServiceModel } from "@/api/model";
import { amount } from "@/features/limits/amount";
import { Unknown } from "@/ui/Figure";
import { Mark, type Tone } from "@/ui/Mark";
import { money, moneyExact } from "@/units/money";
import { per } from "@/units/words";

export const ACCESS: Readonly<Record<Access, { label: string; why: string }>> = {
  open: { label: t`Open`, why: t`Whoever asks may call it at once` },
  "team-admin": { label: t`Team decides`, why: t`An admin of the team that asks decides` },
  approval: { label: t`By approval`, why: t`The gateway's owner, an admin or an operator decides` },
  closed: { label: t`Closed`, why: t`It cannot be asked for here` },
};

/** What the reader's own apps may do with it. */
export function standing(service: Service): { tone: Tone; label: string; why: string } {
  if (service.apps.length > 0) {
    const apps = service.apps.map((each) => each.app).join(", ");
    return { tone: "ok", label: plural(service.apps.length, { one: "# app may call it", other: "# apps may call it" }), why: apps };
  }
  if (service.pending.length > 0) return { tone: "warn", label: t`Asked for`, why: t`A request for it awaits a decision` };
  return { tone: "idle", label: t`Not asked for`, why: ACCESS[service.access].why };
}

export function Standing({ service }: { service: Service }) {
  const { tone, label, why } = standing(service);
  return (
    <Mark tone={tone} title={why}>
      {label}
    </Mark>
  );
}

/** "$1.00 in · $4.00 out" for a million tokens. */
export function Price({ model }: { model: ServiceModel }) {
  const price = model.price;
  if (price === null) return <Unknown why={t`no price is known for this model`} />;
  if (price.input === 0 && price.output === 0 && price.per_request > 0) {
    return <span title={moneyExact(price.per_request)}>{t`${money(price.per_request)} a request`}</span>;
  }
  const hover = t`A million input tokens: ${moneyExact(price.input)}. A million output tokens: ${moneyExact(price.output)}`;
  return <span title={hover}>{t`${money(price.input)} in · ${money(price.output)} out`}</span>;
}

/** "$50.00 a month, all apps of your team". */
export function limitWords(limit: ServiceLimit): { most: string; whose: string } {
  const most = amount(limit.metric, Number(limit.at_most));
  const bound = limit.metric === "concurrent_requests" || !limit.window ? most : per(most, limit.window);
  const whose = limit.key ? t`key ${limit.key}` : limit.app ? t`app ${limit.app}` : limit.limit ? t`all apps of the team` : t`all callers of this service`;
  return { most: bound, whose };
}

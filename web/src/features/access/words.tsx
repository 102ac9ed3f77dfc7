/** States of requests, and what can be done with one, in words. */
import { t } from "@lingui/core/macro";
import type { AccessRequest, Deed, RequestState } from "@/api/model";
import { Mark, type Tone } from "@/ui/Mark";

export const STATES: Readonly<Record<RequestState, { label: string; tone: Tone }>> = {
  pending: { label: t`Awaits a decision`, tone: "warn" },
  approved: { label: t`Approved`, tone: "ok" },
  denied: { label: t`Denied`, tone: "bad" },
  withdrawn: { label: t`Withdrawn`, tone: "idle" },
  expired: { label: t`Has ended`, tone: "idle" },
  revoked: { label: t`Revoked`, tone: "bad" },
};

export function State({ request }: { request: AccessRequest }) {
  const { label, tone } = STATES[request.state];
  return <Mark tone={tone}>{label}</Mark>;
}

/** What the buttons say. */
export const DEEDS: Readonly<Record<Deed, string>> = { approve: t`Approve`, deny: t`Deny`, withdraw: t`Withdraw`, revoke: t`Revoke` };

/** The name of who acted, without what kind it is. */
export const nameOf = (actor: string): string => actor.replace(/^(user|token|cli):/, "");

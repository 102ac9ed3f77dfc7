/** Approve, deny, withdraw or revoke: what it does in a sentence, a reason, and for an approval until when. */
import { t } from "@lingui/core/macro";
import { Select, Textarea } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { AccessRequest, Deed } from "@/api/model";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";
import { FormDialog } from "@/ui/FormDialog";
import { instant } from "@/units/time";
import { decide } from "./queries";
import { DEEDS } from "./words";

type Choice = Expiry | "asked";

export function DecisionForm({ request, deed, close }: { request: AccessRequest; deed: Deed; close: () => void }) {
  const [reason, setReason] = useState("");
  const [expiry, setExpiry] = useState<Choice>(request.asked_until ? "asked" : "never");
  const queries = useQueryClient();
  const routes = request.routes.join(", ");
  const expiresAt = expiry === "asked" ? request.asked_until : (expiryOf(expiry, Date.now()).expires_at ?? null);
  const asked = request.asked_until ? [{ value: "asked", label: t`As asked: ${instant(request.asked_until, Date.now())}` }] : [];
  return (
    <FormDialog
      title={`${DEEDS[deed]} · ${request.app}`}
      deed={DEEDS[deed]}
      complete
      act={() => decide(deed, { id: request.id, version: request.version, reason, expiresAt })}
      done={async () => {
        await Promise.all(["access-requests", "catalogue", "apps", "notices"].map((kind) => queries.invalidateQueries({ queryKey: [kind] })));
        close();
      }}
      close={close}
    >
      <div>{consequence(deed, request.app, request.team, routes)}</div>
      {deed === "approve" ? (
        <Select label={t`Holds until`} data={[...asked, ...EXPIRIES.map((each) => ({ ...each, label: each.value === "never" ? t`For good` : each.label }))]} value={expiry} allowDeselect={false} onChange={(chosen) => setExpiry(chosen as Choice)} />
      ) : null}
      <Textarea label={t`Reason`} description={deed === "withdraw" ? t`For the record` : t`The team reads it`} autosize minRows={2} maxRows={6} value={reason} onChange={(event) => setReason(event.currentTarget.value)} data-autofocus />
    </FormDialog>
  );
}

function consequence(deed: Deed, app: string, team: string, routes: string): string {
  switch (deed) {
    case "approve":
      return t`Keys of ${app} (team ${team}) may call ${routes} within a second, within the limits that hold for it.`;
    case "deny":
      return t`${app} stays as it is. The team is told, and may ask again.`;
    case "revoke":
      return t`Calls of ${app} to ${routes} are refused within a second.`;
    case "withdraw":
      return t`${app} may not call ${routes} by this request any more, from a second from now.`;
  }
}

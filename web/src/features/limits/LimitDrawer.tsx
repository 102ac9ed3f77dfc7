/** One limit: what it allows to whom, how full it is, and what it does with what cannot be counted. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import type { Limit } from "@/api/model";
import { useMay } from "@/api/session";
import { Deeds } from "@/features/publish/Deeds";
import { draftRemoval } from "@/features/publish/queries";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Unknown, Until, When } from "@/ui/Figure";
import { sentence } from "@/units/words";
import { amount, bare, promise, whom } from "./amount";
import { LimitEditForm } from "./LimitForm";
import { limitQuery, limitsQuery, limitStateQuery, removeLimit } from "./queries";

export function LimitDrawer() {
  const { name } = useParams({ from: "/frame/limits/$name" });
  const navigate = useNavigate();
  const limit = useQuery(limitQuery(name));
  const close = useCallback(() => void navigate({ to: "/limits" }), [navigate]);
  return (
    <Drawer title={name} label={t`Limit ${name}`} close={close}>
      {limit.error ? <Problem error={limit.error} again={() => void limit.refetch()} /> : null}
      {limit.data ? <Details limit={limit.data} /> : limit.error ? null : <Skeleton height={240} />}
    </Drawer>
  );
}

function Details({ limit }: { limit: Limit }) {
  const may = useMay()("configuration:write");
  const state = useQuery(limitStateQuery(limit.id));
  const figure = (value: number | undefined) => (value === undefined ? <Unknown why={state.error?.message ?? t`loading`} /> : bare(limit.metric, value));
  const used = state.data && Number(state.data.used);
  const reserved = state.data && Number(state.data.reserved);
  const left = state.data && Math.max(0, Number(state.data.at_most) - Number(state.data.used) - Number(state.data.reserved));
  return (
    <>
      {may ? <Deeds kind="limit" name={limit.name} may edit={(close) => <LimitEditForm limit={limit} close={close} />} remove={(close) => <RemoveLimit limit={limit} close={close} />} /> : null}
      <Part title={t`What it allows`}>
        <Facts
          facts={[
            [t`At most`, promise(limit)],
            [t`For`, sentence(whom(limit.scope))],
            ...(limit.metric === "cost_usd" ? ([[t`Requests that have no price`, limit.unpriced === "admit" ? t`pass, and cost nothing here` : t`are refused`]] as const) : []),
            [t`While the quota authority is away`, limit.when_unavailable === "admit" ? t`requests pass` : t`requests are refused`],
            [t`Changed`, <When key="changed" at={limit.updated_at} />],
          ]}
        />
      </Part>
      <Part title={t`Now`}>
        {state.error ? <Problem error={state.error} again={() => void state.refetch()} /> : null}
        {state.data || !state.error ? (
          <Facts
            facts={[
              [t`Settled`, figure(used)],
              [t`Reserved by requests in flight`, figure(reserved)],
              [t`Left`, figure(left)],
              ...(limit.metric === "concurrent_requests" ? [] : ([[t`Begins anew in`, state.data ? state.data.resets_at ? <Until key="anew" at={state.data.resets_at} /> : t`never` : figure(undefined)]] as const)),
            ]}
          />
        ) : null}
      </Part>
    </>
  );
}

function RemoveLimit({ limit, close }: { limit: Limit; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  const state = useQuery(limitStateQuery(limit.id)).data;
  const used = state && amount(limit.metric, Number(state.used));
  const most = promise(limit);
  return (
    <Confirm
      title={t`Remove ${limit.name}?`}
      consequence={
        <p>
          {used === undefined ? <Trans>Nothing holds {whom(limit.scope)} to {most} any more. What it has counted is forgotten.</Trans> : <Trans>Nothing holds {whom(limit.scope)} to {most} any more. What it has counted, {used}, is forgotten.</Trans>}
        </p>
      }
      deed={t`Remove ${limit.name}`}
      draft={() => draftRemoval("limit", limit.name)}
      act={async () => {
        await removeLimit(limit.name);
        await navigate({ to: "/limits" }); // first: its drawer would ask for what is gone
        await queries.invalidateQueries({ queryKey: limitsQuery.queryKey, exact: true });
      }}
      close={close}
    />
  );
}

/** One denial: whether it holds, what of its limit is used, what it has refused, and its end. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import type { Denial } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Unknown, Until, When } from "@/ui/Figure";
import { bytes, exact } from "@/units/count";
import { sentence } from "@/units/words";
import { Allowance } from "./Allowance";
import styles from "./denials.module.css";
import { denialsQuery, removeDenial } from "./queries";
import { DenialMark, whatOf, whoOf } from "./words";

export function DenialDrawer() {
  const { name } = useParams({ from: "/frame/discoveries/denials/$name" });
  const navigate = useNavigate();
  const asked = useQuery(denialsQuery);
  const close = useCallback(() => void navigate({ to: "/discoveries/denials", search: (old) => old }), [navigate]);
  const found = asked.data?.find((each) => each.name === name);
  return (
    <Drawer title={name} label={t`Denial`} close={close}>
      {found ? (
        <Details denial={found} close={close} />
      ) : asked.data ? (
        <p>
          <Trans>There is no such denial: it has been removed, or its time was over.</Trans>
        </p>
      ) : asked.error ? (
        <Problem error={asked.error} again={() => void asked.refetch()} />
      ) : (
        <Skeleton height={320} />
      )}
    </Drawer>
  );
}

function Details({ denial, close }: { denial: Denial; close: () => void }) {
  const may = useMay()("configuration:write");
  const queries = useQueryClient();
  const [removing, setRemoving] = useState(false);
  const unknown = <Unknown why={denial.reason ?? t`the kernel has not said yet`} />;
  return (
    <>
      <div className={styles.state}>
        <DenialMark denial={denial} />
        {denial.in_force !== true && denial.reason ? <span>{sentence(denial.reason)}.</span> : null}
        {denial.limit ? <Allowance denial={denial} wide /> : null}
      </div>
      <Part title={t`What it does`}>
        <Facts
          facts={[
            [t`Who`, whoOf(denial)],
            [t`May not reach`, whatOf(denial)],
            ...(denial.limit ? [] : ([[t`How much may pass`, t`nothing`]] as const)),
            [t`Connections refused`, denial.denied === null ? unknown : exact(denial.denied)],
            ...(denial.limit?.bytes != null ? ([[t`Held back`, denial.dropped_bytes === null ? unknown : bytes(denial.dropped_bytes)]] as const) : []),
            [t`Ends`, denial.expires_at ? <Trans key="e">in <Until at={denial.expires_at} /></Trans> : t`never`],
            [t`When the agent is away`, denial.on_failure === "closed" ? t`it holds` : t`it does not hold`],
          ]}
        />
      </Part>
      <Part title={t`Where from`}>
        <Facts
          facts={[
            [t`Made by`, denial.created_by],
            [t`Made`, <When key="w" at={denial.created_at} />],
            ...(denial.discovery !== null
              ? ([[t`Finding`, <Link key="f" to="/discoveries/$id" params={{ id: String(denial.discovery) }}>{t`Finding ${denial.discovery}`}</Link>]] as const)
              : []),
            ...(denial.note ? ([[t`Note`, denial.note]] as const) : []),
          ]}
        />
      </Part>
      <div>
        <Button variant="default" disabled={!may} onClick={() => setRemoving(true)}>
          <Trans>Remove this denial</Trans>
        </Button>
      </div>
      {removing ? (
        <Confirm
          title={t`Remove ${denial.name}?`}
          consequence={t`${sentence(whoOf(denial))} may reach ${whatOf(denial)} again within a second.`}
          deed={t`Remove ${denial.name}`}
          act={async () => {
            await removeDenial(denial.name);
            await queries.invalidateQueries({ queryKey: denialsQuery.queryKey });
            close();
          }}
          close={() => setRemoving(false)}
        />
      ) : null}
    </>
  );
}

/** An app's keys: made and shown once, recognised by their beginning, revoked with the consequence told first. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { spanOf } from "@/app/range";
import { api, unwrap } from "@/api/client";
import type { App, Key } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Part } from "@/ui/Drawer";
import { When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import styles from "./keys.module.css";
import { KeyForm } from "./KeyForm";
import { keysQuery, revokeKey } from "./queries";
import { Overlap, RotateForm } from "./Rotation";

export function Keys({ app }: { app: App }) {
  const may = useMay();
  const keys = useQuery({ ...keysQuery, select: (all) => all.filter((key) => key.app === app.name) });
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key>();
  const [rotating, setRotating] = useState<Key>();
  return (
    <Part title={t`Keys`}>
      {keys.error ? <Problem error={keys.error} again={() => void keys.refetch()} /> : null}
      {keys.isPending ? <Skeleton height={72} /> : null}
      {keys.data?.length === 0 ? <p className={styles.none}>{t`No keys: nothing can call the gateway as ${app.name}.`}</p> : null}
      <ul className={styles.keys}>
        {keys.data?.map((key) => (
          <li key={key.id}>
            <div>
              <div className={styles.name}>{key.name}</div>
              <div className={styles.facts}>
                {key.prefix ? <code>{key.prefix}…</code> : null}{" "}
                <Trans>
                  made <When at={key.created_at} />
                </Trans>
              </div>
            </div>
            <KeyState key_={key} />
            {key.previous_until && may("keys:write") ? <Overlap key_={key} /> : null}
            {may("keys:write") ? (
              <div className={styles.deeds}>
                <Button size="compact-sm" variant="subtle" color="gray" onClick={() => setRotating(key)} aria-label={t`Rotate ${key.name}`}>
                  <Trans>Rotate</Trans>
                </Button>
                <Button size="compact-sm" variant="subtle" color="red" onClick={() => setRevoking(key)} aria-label={t`Revoke ${key.name}`}>
                  <Trans>Revoke</Trans>
                </Button>
              </div>
            ) : null}
          </li>
        ))}
      </ul>
      {may("keys:write") ? (
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => setMaking(true)}>
          <Trans>Make a key</Trans>
        </Button>
      ) : null}
      {making ? <KeyForm app={app} close={() => setMaking(false)} /> : null}
      {rotating ? <RotateForm app={app} rotated={rotating} close={() => setRotating(undefined)} /> : null}
      {revoking ? <Revoke app={app} revoked={revoking} close={() => setRevoking(undefined)} /> : null}
    </Part>
  );
}

function KeyState({ key_: { expires_at } }: { key_: Key }) {
  if (expires_at === null) return <Mark tone="ok">{t`Valid`}</Mark>;
  if (new Date(expires_at).getTime() <= Date.now()) return <Mark tone="idle">{t`Expired`}</Mark>;
  return (
    <Mark tone="ok">
      <Trans>
        Until <When at={expires_at} />
      </Trans>
    </Mark>
  );
}

/** The consequence in numbers: what this key has done in the last day. */
function Revoke({ app, revoked, close }: { app: App; revoked: Key; close: () => void }) {
  const queries = useQueryClient();
  const usage = useQuery({
    queryKey: ["usage", "of-key", app.name, revoked.name],
    queryFn: () => unwrap(api.GET("/api/v1/usage", { params: { query: { app: app.name, key: revoked.name, ...spanOf("24h", Date.now()) } } })),
  });
  const requests = usage.data?.items.reduce((sum, item) => sum + item.requests, 0);
  return (
    <Confirm
      title={t`Revoke ${revoked.name}?`}
      consequence={
        <>
          <Trans>Every call with this key is refused within a second, and it cannot be made valid again.</Trans>{" "}
          {requests === undefined ? null : plural(requests, { 0: "It made no request in the last 24 hours.", one: "It made # request in the last 24 hours.", other: "It made # requests in the last 24 hours." })}
        </>
      }
      deed={t`Revoke ${revoked.name}`}
      act={async () => {
        await revokeKey(revoked.id);
        await queries.invalidateQueries({ queryKey: keysQuery.queryKey });
      }}
      close={close}
    />
  );
}

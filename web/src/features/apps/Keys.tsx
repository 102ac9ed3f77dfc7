/** An app's keys: made and shown once, recognised by their beginning, revoked with the consequence told first. */
import { Button, Group, Select, Skeleton, TextInput } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { spanOf } from "@/app/range";
import { api, unwrap } from "@/api/client";
import type { App, Key, KeyMade } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Confirm, Dialog } from "@/ui/Confirm";
import { Part } from "@/ui/Drawer";
import { When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { ShownOnce } from "@/ui/ShownOnce";
import { plural } from "@/units/count";
import styles from "./keys.module.css";
import { keysQuery, makeKey, revokeKey } from "./queries";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";

export function Keys({ app }: { app: App }) {
  const may = useMay();
  const keys = useQuery({ ...keysQuery, select: (all) => all.filter((key) => key.app === app.name) });
  const [making, setMaking] = useState(false);
  const [revoking, setRevoking] = useState<Key>();
  return (
    <Part title="Keys">
      {keys.error ? <Problem error={keys.error} again={() => void keys.refetch()} /> : null}
      {keys.isPending ? <Skeleton height={72} /> : null}
      {keys.data?.length === 0 ? <p className={styles.none}>No keys: nothing can call the gateway as {app.name}.</p> : null}
      <ul className={styles.keys}>
        {keys.data?.map((key) => (
          <li key={key.id}>
            <div>
              <div className={styles.name}>{key.name}</div>
              <div className={styles.facts}>
                {key.prefix ? <code>{key.prefix}…</code> : null} made <When at={key.created_at} />
              </div>
            </div>
            <KeyState key_={key} />
            {may("keys:write") ? (
              <Button size="compact-sm" variant="subtle" color="red" onClick={() => setRevoking(key)} aria-label={`Revoke ${key.name}`}>
                Revoke
              </Button>
            ) : null}
          </li>
        ))}
      </ul>
      {may("keys:write") ? (
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => setMaking(true)}>
          Make a key
        </Button>
      ) : null}
      {making ? <KeyForm app={app} close={() => setMaking(false)} /> : null}
      {revoking ? <Revoke app={app} revoked={revoking} close={() => setRevoking(undefined)} /> : null}
    </Part>
  );
}

function KeyState({ key_: { expires_at } }: { key_: Key }) {
  if (expires_at === null) return <Mark tone="ok">Valid</Mark>;
  if (new Date(expires_at).getTime() <= Date.now()) return <Mark tone="idle">Expired</Mark>;
  return (
    <Mark tone="ok">
      Until <When at={expires_at} />
    </Mark>
  );
}

function KeyForm({ app, close }: { app: App; close: () => void }) {
  const [name, setName] = useState("");
  const [expiry, setExpiry] = useState<Expiry>("never");
  const [made, setMade] = useState<KeyMade>();
  const queries = useQueryClient();
  const making = useMutation({
    mutationFn: () => makeKey({ app: app.name, name: name.trim(), ...expiryOf(expiry, Date.now()) }),
    onSuccess: async (key) => {
      setMade(key);
      await queries.invalidateQueries({ queryKey: keysQuery.queryKey });
    },
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    making.mutate();
  }

  if (made?.key) return <ShownOnce title={`Key ${made.name} for ${app.name}`} secret={made.key} copy="Copy the key" close={close} />;
  return (
    <Dialog title={`Make a key for ${app.name}`} close={close}>
      <form onSubmit={submit} style={{ display: "grid", gap: 14 }}>
        {making.error ? <Problem error={making.error} /> : null}
        <TextInput label="Name" description="Where it will be used, e.g. ci or laptop" required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
        <Select label="Expires" data={EXPIRIES.map((each) => ({ ...each }))} value={expiry} allowDeselect={false} onChange={(chosen) => setExpiry(chosen as Expiry)} />
        <Group justify="flex-end" gap="xs">
          <Button variant="default" onClick={close}>
            Cancel
          </Button>
          <Button type="submit" loading={making.isPending} disabled={name.trim() === ""}>
            Make the key
          </Button>
        </Group>
      </form>
    </Dialog>
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
      title={`Revoke ${revoked.name}?`}
      consequence={
        <>
          Every call with this key is refused within a second, and it cannot be made valid again.{" "}
          {requests === undefined ? null : requests === 0 ? "It made no request in the last 24 hours." : `It made ${plural(requests, "request")} in the last 24 hours.`}
        </>
      }
      deed={`Revoke ${revoked.name}`}
      act={async () => {
        await revokeKey(revoked.id);
        await queries.invalidateQueries({ queryKey: keysQuery.queryKey });
      }}
      close={close}
    />
  );
}

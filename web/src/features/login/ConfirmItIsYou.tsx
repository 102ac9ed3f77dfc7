/** Before a deed that outlives the session: the password, a code or a passkey once more, or a fresh sign-in. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, PasswordInput, TextInput } from "@mantine/core";
import { IconFingerprint, IconLogin2 } from "@tabler/icons-react";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useEffect, useState, type FormEvent } from "react";
import { confirmByPasskey, noPasskeysBecause } from "@/api/passkey";
import { confirmationQuery, confirmIt, sessionQuery } from "@/api/session";
import type { Confirmation, SignOnOption } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import styles from "./login.module.css";

const LOOK_EVERY_MS = 1500;

interface ConfirmProps {
  end: (confirmed: boolean) => void;
}

export default function ConfirmItIsYou({ end }: ConfirmProps) {
  const ways = useQuery(confirmationQuery);
  return (
    <Dialog title={t`Confirm that it is you`} close={() => end(false)} firm topmost>
      <div>
        <Trans>You signed in a while ago, and this would last longer than your session.</Trans>
      </div>
      {ways.error ? <Problem error={ways.error} again={() => void ways.refetch()} /> : null}
      {ways.data ? <Ways ways={ways.data} end={end} /> : null}
    </Dialog>
  );
}

function Ways({ ways, end }: ConfirmProps & { ways: Confirmation }) {
  const passkey = ways.passkey && noPasskeysBecause() === undefined;
  if (ways.provider) return <Afresh provider={ways.provider} end={end} />;
  if (ways.password || ways.code) return <Secret ways={ways} passkey={passkey} end={end} />;
  if (passkey) return <ByPasskey end={end} />;
  return (
    <div>
      <Trans>There is no way to confirm it here: sign out, sign in again, and repeat what you wanted.</Trans>
    </div>
  );
}

/** Password or code, one at a time. */
function Secret({ ways, passkey, end }: ConfirmProps & { ways: Confirmation; passkey: boolean }) {
  const [byCode, setByCode] = useState(!ways.password);
  const [secret, setSecret] = useState("");
  const confirming = useMutation({ mutationFn: () => confirmIt(byCode ? { code: secret } : { password: secret }), onSuccess: () => end(true) });

  function submit(event: FormEvent): void {
    event.preventDefault();
    confirming.mutate();
  }

  function turn(): void {
    setSecret("");
    confirming.reset();
    setByCode(!byCode);
  }

  return (
    <form onSubmit={submit} className={styles.form}>
      {confirming.error ? <Problem error={confirming.error} /> : null}
      {byCode ? (
        <TextInput
          key="code"
          label={t`Code`}
          description={t`Of your authenticator app, or a recovery code`}
          autoComplete="one-time-code"
          required
          value={secret}
          onChange={(event) => setSecret(event.currentTarget.value)}
          autoFocus
        />
      ) : (
        <PasswordInput
          key="password"
          label={t`Your password`}
          required
          autoComplete="current-password"
          value={secret}
          onChange={(event) => setSecret(event.currentTarget.value)}
          visibilityToggleButtonProps={{ "aria-label": t`Show the password` }}
          autoFocus
        />
      )}
      {ways.password && ways.code ? (
        <div className={styles.ways}>
          <button type="button" className={styles.way} onClick={turn}>
            {byCode ? t`Use your password` : t`Use a code instead`}
          </button>
        </div>
      ) : null}
      {passkey ? <ByPasskey end={end} /> : null}
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={() => end(false)}>
          <Trans>Cancel</Trans>
        </Button>
        <Button type="submit" loading={confirming.isPending} disabled={secret === ""}>
          <Trans>Confirm</Trans>
        </Button>
      </Group>
    </form>
  );
}

function ByPasskey({ end }: ConfirmProps) {
  const confirming = useMutation({ mutationFn: confirmByPasskey, onSuccess: () => end(true) });
  return (
    <>
      {confirming.error ? <Problem error={confirming.error} /> : null}
      <Button variant="default" leftSection={<IconFingerprint size={18} stroke={1.7} />} loading={confirming.isPending} onClick={() => confirming.mutate()}>
        <Trans>Use a passkey</Trans>
      </Button>
    </>
  );
}

/** In another tab, so that nothing that was filled in here is lost. */
function Afresh({ provider, end }: ConfirmProps & { provider: SignOnOption }) {
  const [opened, setOpened] = useState(false);
  const me = useQuery(sessionQuery).data?.username;
  const seen = useQuery({ ...confirmationQuery, refetchInterval: opened ? LOOK_EVERY_MS : false }).data;
  useEffect(() => {
    if (!seen?.confirmed) return;
    if (seen.username === me) end(true);
    else window.location.reload(); // somebody else has signed in there: this page is no longer theirs
  }, [seen, me, end]);
  const url = `/api/v1/sign-on/start?${new URLSearchParams({ provider: provider.name, fresh: "true", next: "/console/confirmed" }).toString()}`;
  return (
    <>
      <div>
        <Trans>Sign in at {provider.label} once more, in another tab. This page goes on by itself then.</Trans>
      </div>
      <Group justify="flex-end" gap="xs">
        <Button variant="default" onClick={() => end(false)}>
          <Trans>Cancel</Trans>
        </Button>
        <Button component="a" href={url} target="_blank" rel="noopener" leftSection={<IconLogin2 size={17} />} onClick={() => setOpened(true)}>
          <Trans>Sign in with {provider.label}</Trans>
        </Button>
      </Group>
    </>
  );
}

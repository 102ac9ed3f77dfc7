/** The own account: how one signs in, and where one is signed in. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useState, type ReactNode } from "react";
import type { Account } from "@/api/model";
import { noPasskeysBecause } from "@/api/passkey";
import { sessionQuery } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { Page, Section } from "@/ui/Page";
import styles from "./account.module.css";
import { PasskeyForm } from "./PasskeyForm";
import { Passkeys } from "./Passkeys";
import { PasswordForm } from "./PasswordForm";
import { accountQuery, makeRecoveryCodes, removeTotp, useRenewed } from "./queries";
import { RecoveryCodes } from "./RecoveryCodes";
import { Sessions } from "./Sessions";
import { TotpForm } from "./TotpForm";
import { WithPassword } from "./WithPassword";

type Doing = "password" | "totp" | "totp-remove" | "passkey" | "codes";
const FEW_CODES = 3;

export function AccountPage() {
  const account = useQuery(accountQuery);
  const due = useQuery(sessionQuery).data?.second_factor_due ?? false;
  return (
    <Page title={t`Account`} line={t`How you sign in, and where you are signed in.`}>
      {due ? (
        <Notice title={t`Your role needs a second factor`}>
          <p>
            <Trans>Set up an authenticator app or a passkey below. Until then this page is all that is open to you.</Trans>
          </p>
        </Notice>
      ) : null}
      <Section title={t`Signing in`}>
        {account.error ? <Problem error={account.error} again={() => void account.refetch()} /> : null}
        {account.isPending ? <Skeleton height={190} radius={8} /> : null}
        {account.data?.managed ? (
          <Notice title={t`Your identity provider signs you in`}>
            <p>
              <Trans>Password and second factors are its business; nothing that you set up here would let you in.</Trans>
            </p>
          </Notice>
        ) : null}
        {account.data && !account.data.managed ? <Ways account={account.data} /> : null}
      </Section>
      <Sessions />
    </Page>
  );
}

function Ways({ account }: { account: Account }) {
  const [doing, setDoing] = useState<Doing>();
  const [codes, setCodes] = useState<readonly string[]>();
  const renewed = useRenewed();
  const close = (): void => setDoing(undefined);
  const noPasskeys = noPasskeysBecause();
  const secured = account.totp || account.passkeys > 0;
  const left = account.recovery_codes;

  /** After a deed: recovery codes that came with it are shown before anything else. */
  async function done(made: readonly string[] = []): Promise<void> {
    close();
    if (made.length > 0) setCodes(made);
    await renewed();
  }

  return (
    <>
      <ul className={styles.ways}>
        <Way
          name={t`Password`}
          state={account.has_password ? <Mark tone="ok">{t`Set`}</Mark> : <Mark tone="idle">{t`None`}</Mark>}
          note={account.has_password ? t`Changing it signs you out everywhere else.` : t`You sign in by other means. With a password you could do so here, too.`}
          deed={
            <Button variant="default" size="xs" onClick={() => setDoing("password")}>
              {account.has_password ? t`Change password` : t`Set a password`}
            </Button>
          }
        />
        <Way
          name={t`Authenticator app`}
          state={account.totp ? <Mark tone="ok">{t`On`}</Mark> : <Mark tone="idle">{t`Off`}</Mark>}
          note={t`An app on your phone shows a code every 30 seconds, which is asked for after the password.`}
          deed={
            account.totp ? (
              <Button variant="default" size="xs" onClick={() => setDoing("totp-remove")}>
                <Trans>Remove the app</Trans>
              </Button>
            ) : (
              <Button variant={secured ? "default" : "filled"} size="xs" onClick={() => setDoing("totp")}>
                <Trans>Set up an app</Trans>
              </Button>
            )
          }
        />
        <Way
          name={t`Passkeys`}
          state={account.passkeys > 0 ? <Mark tone="ok">{plural(account.passkeys, { one: "# passkey", other: "# passkeys" })}</Mark> : <Mark tone="idle">{t`None`}</Mark>}
          note={noPasskeys ?? t`Fingerprint, face, PIN or a security key, in place of password and code.`}
          deed={
            <Button variant="default" size="xs" disabled={noPasskeys !== undefined} onClick={() => setDoing("passkey")}>
              <Trans>Add a passkey</Trans>
            </Button>
          }
        >
          {account.passkeys > 0 ? <Passkeys hasPassword={account.has_password} /> : null}
        </Way>
        {secured ? (
          <Way
            name={t`Recovery codes`}
            state={<Mark tone={left > FEW_CODES ? "ok" : left > 0 ? "warn" : "bad"}>{t`${left} of 10 left`}</Mark>}
            note={t`Each lets you in once, after the password, when app and passkeys are lost.`}
            deed={
              <Button variant="default" size="xs" onClick={() => setDoing("codes")}>
                <Trans>Make new codes</Trans>
              </Button>
            }
          />
        ) : null}
      </ul>
      {doing === "password" ? <PasswordForm hasPassword={account.has_password} done={done} close={close} /> : null}
      {doing === "totp" ? <TotpForm account={account} done={done} close={close} /> : null}
      {doing === "passkey" ? <PasskeyForm account={account} done={done} close={close} /> : null}
      {doing === "totp-remove" ? (
        <WithPassword
          title={t`Remove the authenticator app?`}
          deed={t`Remove the app`}
          hasPassword={account.has_password}
          act={removeTotp}
          done={() => done()}
          close={close}
        >
          {account.passkeys > 0 ? (
            <Trans>No code is asked for any more. Passkeys and recovery codes remain as they are.</Trans>
          ) : (
            <Trans>Your password alone lets you in from then on, and your {left} recovery codes are worth nothing any more.</Trans>
          )}
        </WithPassword>
      ) : null}
      {doing === "codes" ? (
        <WithPassword
          title={t`Make new recovery codes?`}
          deed={t`Make 10 new codes`}
          hasPassword={account.has_password}
          act={makeRecoveryCodes}
          done={(made) => done(made.recovery_codes)}
          close={close}
        >
          <Trans>The {left} codes that are left are worth nothing any more.</Trans>
        </WithPassword>
      ) : null}
      {codes ? <RecoveryCodes codes={codes} close={() => setCodes(undefined)} /> : null}
    </>
  );
}

interface WayProps {
  name: string;
  state: ReactNode;
  note: string;
  deed: ReactNode;
  children?: ReactNode;
}

function Way({ name, state, note, deed, children }: WayProps) {
  return (
    <li className={styles.way}>
      <div className={styles.name}>{name}</div>
      <div className={styles.state}>{state}</div>
      <p className={styles.note}>{note}</p>
      <div className={styles.deed}>{deed}</div>
      {children ? <div className={styles.more}>{children}</div> : null}
    </li>
  );
}

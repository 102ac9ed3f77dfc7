/** Setting up an authenticator app: the password, then the QR code and a first code of the app. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { TextInput } from "@mantine/core";
import encodeQR from "qr";
import { useMemo, useState } from "react";
import type { Account } from "@/api/model";
import { Id } from "@/ui/Copy";
import { FormDialog } from "@/ui/FormDialog";
import styles from "./account.module.css";
import { beginTotp, confirmTotp } from "./queries";
import { WithPassword } from "./WithPassword";

interface TotpFormProps {
  account: Account;
  /** Recovery codes come along with the first factor. */
  done: (codes: readonly string[]) => unknown;
  close: () => void;
}

export function TotpForm({ account, done, close }: TotpFormProps) {
  const [begun, setBegun] = useState<{ secret: string; uri: string }>();
  const [code, setCode] = useState("");
  if (!begun) {
    return (
      <WithPassword title={t`Set up an authenticator app`} deed={t`Go on`} hasPassword={account.has_password} act={beginTotp} done={setBegun} close={close}>
        <Trans>You need an app that shows time-based codes: any authenticator or password manager that does will do.</Trans>
      </WithPassword>
    );
  }
  const digits = code.replaceAll(" ", "");
  return (
    <FormDialog
      title={t`Set up an authenticator app`}
      deed={t`Turn it on`}
      complete={/^\d{6}$/.test(digits)}
      act={() => confirmTotp(digits)}
      done={(made) => done(made.recovery_codes)}
      close={close}
    >
      <div>
        <Trans>Scan this with the app, or type the key into it.</Trans>
      </div>
      <Qr text={begun.uri} />
      <div className={styles.secret} data-testid="totp-secret">
        <Id text={begun.secret} what={t`key`} />
      </div>
      <TextInput
        label={t`Code`}
        description={t`The six digits that the app shows now. You are signed out everywhere else`}
        required
        autoComplete="one-time-code"
        inputMode="numeric"
        value={code}
        onChange={(event) => setCode(event.currentTarget.value)}
        data-autofocus
      />
    </FormDialog>
  );
}

/** One path of unit squares, which any size draws sharp. */
function Qr({ text }: { text: string }) {
  const { size, path } = useMemo(() => {
    const rows = encodeQR(text, "raw", { border: 2 });
    const squares = rows.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])));
    return { size: rows.length, path: squares.join("") };
  }, [text]);
  return (
    <svg className={styles.qr} viewBox={`0 0 ${size} ${size}`} role="img" aria-label={t`QR code of the key`} shapeRendering="crispEdges">
      <path d={path} fill="#000" />
    </svg>
  );
}

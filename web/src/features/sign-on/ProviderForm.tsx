/** A new identity provider, or another state of one. */
import { t } from "@lingui/core/macro";
import { PasswordInput, Switch, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { SignOnProvider } from "@/api/model";
import { Id } from "@/ui/Copy";
import { FormDialog, Line } from "@/ui/FormDialog";
import { addProvider, changeProvider, policyQuery, signOnProvidersQuery } from "./queries";
import styles from "./sign-on.module.css";

interface ProviderFormProps {
  before?: SignOnProvider;
  close: () => void;
  done?: (provider: SignOnProvider) => void;
}

export function ProviderForm({ before, close, done }: ProviderFormProps) {
  const redirect = useQuery(policyQuery).data?.redirect_uri;
  const [label, setLabel] = useState(before?.label ?? "");
  const [issuer, setIssuer] = useState(before?.issuer ?? "");
  const [clientId, setClientId] = useState(before?.client_id ?? "");
  const [secret, setSecret] = useState("");
  const [scopes, setScopes] = useState(before?.scopes ?? "openid profile email groups");
  const [groups, setGroups] = useState(before?.groups_claim ?? "groups");
  const [naming, setNaming] = useState(before?.name_claim ?? "preferred_username");
  const [enabled, setEnabled] = useState(before?.enabled ?? true);
  const [provisions, setProvisions] = useState(before?.provisions ?? false);
  const other = useQuery(signOnProvidersQuery).data?.find((each) => each.provisions && each.id !== before?.id);
  const queries = useQueryClient();

  const fields = {
    label: label.trim(),
    issuer: issuer.trim(),
    client_id: clientId.trim(),
    scopes: scopes.trim(),
    groups_claim: groups.trim(),
    name_claim: naming.trim(),
    enabled,
    provisions,
    ...(secret ? { client_secret: secret } : {}),
  };
  const otherIssuer = before !== undefined && before.users > 0 && fields.issuer !== before.issuer;
  return (
    <FormDialog
      title={before ? t`Change ${before.label}` : t`Add an identity provider`}
      deed={before ? t`Change ${before.label}` : t`Add ${label.trim() || t`the provider`}`}
      complete={fields.label !== "" && fields.issuer !== "" && fields.client_id !== ""}
      act={() => (before ? changeProvider(before, fields) : addProvider({ ...fields, name: nameOf(fields.label) }))}
      done={async (provider) => {
        await queries.invalidateQueries({ queryKey: ["sign-on"] });
        close();
        done?.(provider);
      }}
      close={close}
    >
      {redirect ? (
        <div className={styles.register}>
          <span>{t`Register there as redirect URI`}</span>
          <Id text={redirect} what={t`redirect URI`} />
        </div>
      ) : null}
      <TextInput label={t`Name`} description={t`What the button says behind “Sign in with”`} required value={label} onChange={(event) => setLabel(event.currentTarget.value)} placeholder="Example Corp" data-autofocus />
      <TextInput
        label={t`Issuer`}
        description={otherIssuer ? t`Another issuer is another provider: its ${before.users} users are signed out and come anew` : t`As its discovery document writes it, slash at the end or not included`}
        required
        value={issuer}
        onChange={(event) => setIssuer(event.currentTarget.value)}
        placeholder="https://login.example.com/realms/main"
        inputMode="url"
        autoComplete="off"
      />
      <Line>
        <TextInput label={t`Client id`} required value={clientId} onChange={(event) => setClientId(event.currentTarget.value)} autoComplete="off" />
        <PasswordInput
          label={t`Client secret`}
          placeholder={before?.has_secret ? t`unchanged` : t`none: PKCE alone`}
          value={secret}
          onChange={(event) => setSecret(event.currentTarget.value)}
          autoComplete="new-password"
          visibilityToggleButtonProps={{ "aria-label": t`Show the secret` }}
        />
      </Line>
      <TextInput label={t`Scopes`} value={scopes} onChange={(event) => setScopes(event.currentTarget.value)} autoComplete="off" />
      <Line>
        <TextInput label={t`Claim of groups`} description={t`With dots where nested`} value={groups} onChange={(event) => setGroups(event.currentTarget.value)} autoComplete="off" />
        <TextInput label={t`Claim of the name`} description={t`At the first sign-in`} value={naming} onChange={(event) => setNaming(event.currentTarget.value)} autoComplete="off" />
      </Line>
      <Switch
        label={t`The directory's: users that SCIM makes come in by it`}
        description={other ? t`${other.label} is, at most one may be` : t`By externalId, user name or verified address, and by no other provider`}
        disabled={other !== undefined}
        checked={provisions}
        onChange={(event) => setProvisions(event.currentTarget.checked)}
      />
      <Switch label={t`On: the sign-in page offers it`} checked={enabled} onChange={(event) => setEnabled(event.currentTarget.checked)} />
    </FormDialog>
  );
}

/** A name for URLs and the audit log, from what people read. */
const nameOf = (label: string): string => {
  const name = label
    .toLowerCase()
    .replace(/[^a-z0-9]+/g, "-")
    .replace(/^-+|-+$/g, "");
  return /[a-z]/.test(name) ? name : `provider-${name || "1"}`;
};

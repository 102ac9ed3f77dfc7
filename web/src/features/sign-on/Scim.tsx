/** Provisioning: where a directory finds us, and the token that it takes. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Select, TextInput } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import type { TokenMade } from "@/api/model";
import { makeToken, tokensQuery } from "@/features/tokens/queries";
import { Id } from "@/ui/Copy";
import { Facts } from "@/ui/Drawer";
import { Unknown } from "@/ui/Figure";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";
import { FormDialog } from "@/ui/FormDialog";
import { Section } from "@/ui/Page";
import { ShownOnce } from "@/ui/ShownOnce";
import { policyQuery } from "./queries";
import styles from "./sign-on.module.css";

export function Scim({ mayChange }: { mayChange: boolean }) {
  const policy = useQuery(policyQuery);
  const url = policy.data?.scim_url;
  const asked = useQuery({ ...tokensQuery, enabled: mayChange });
  const tokens = asked.data?.filter((token) => token.scopes?.includes("scim")).length;
  const [making, setMaking] = useState(false);
  return (
    <Section title={t`Provisioning by SCIM`} aside={t`a directory makes, changes and removes users; who is deactivated is out at once`}>
      <div className={styles.scim}>
        <Facts
          facts={[
            [t`Base URL`, url ? <Id key="u" text={url} what={t`SCIM base URL`} /> : <Unknown key="u" why={policy.error?.message ?? t`loading`} />],
            [
              t`Tokens for it`,
              tokens ? (
                <Link key="t" to="/tokens" search={(old) => old}>
                  {plural(tokens, { one: "# token", other: "# tokens" })}
                </Link>
              ) : mayChange && tokens === undefined ? (
                <Unknown key="t" why={asked.error?.message ?? t`loading`} />
              ) : mayChange ? (
                t`none yet`
              ) : (
                t`only owners see and make them`
              ),
            ],
          ]}
        />
        {mayChange ? (
          <div>
            <Button size="xs" variant="default" onClick={() => setMaking(true)}>
              <Trans>Make a SCIM token</Trans>
            </Button>
          </div>
        ) : null}
      </div>
      {making ? <ScimTokenForm close={() => setMaking(false)} /> : null}
    </Section>
  );
}

function ScimTokenForm({ close }: { close: () => void }) {
  const [name, setName] = useState("directory");
  const [expiry, setExpiry] = useState<Expiry>("365");
  const [made, setMade] = useState<TokenMade>();
  const queries = useQueryClient();
  if (made) return <ShownOnce title={t`Token ${made.name}`} secret={made.token} copy={t`Copy the token`} close={close} />;
  return (
    <FormDialog
      title={t`Make a SCIM token`}
      deed={t`Make the token`}
      complete={name.trim() !== ""}
      act={() => makeToken({ name: name.trim(), role: "owner", scopes: ["scim"], ...expiryOf(expiry, Date.now()) })}
      done={async (token) => {
        setMade(token);
        await queries.invalidateQueries({ queryKey: tokensQuery.queryKey });
      }}
      close={close}
    >
      <p className={styles.none}>
        <Trans>It opens SCIM and nothing else. Whoever has it can put people into any group, those of owners included: give it to the directory alone.</Trans>
      </p>
      <TextInput label={t`Name`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Select label={t`Expires`} data={EXPIRIES.map((each) => ({ ...each }))} value={expiry} allowDeselect={false} onChange={(chosen) => setExpiry(chosen as Expiry)} />
    </FormDialog>
  );
}

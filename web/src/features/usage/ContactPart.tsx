/** Where a team hears of its notices: addresses, which its admins name, and a webhook, which the platform names. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, TagsInput, TextInput } from "@mantine/core";
import { queryOptions, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, unwrap } from "@/api/client";
import type { Contact } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Facts } from "@/ui/Drawer";
import { FormDialog } from "@/ui/FormDialog";
import { Section } from "@/ui/Page";
import { ShownOnce } from "@/ui/ShownOnce";
import styles from "./usage.module.css";

export const contactQuery = (team: string) =>
  queryOptions({ queryKey: ["teams", team, "contact"], queryFn: () => unwrap(api.GET("/api/v1/teams/{ref}/contact", { params: { path: { ref: team } } })) });

export function ContactPart({ team }: { team: string }) {
  const may = useMay();
  const contact = useQuery(contactQuery(team));
  const [changing, setChanging] = useState(false);
  const [signing, setSigning] = useState(false);
  const [secret, setSecret] = useState<string>();
  const queries = useQueryClient();
  const told = contact.data;
  return (
    <Section title={t`Who is told`}>
      {contact.error ? <Problem error={contact.error} again={() => void contact.refetch()} /> : null}
      {told ? (
        <div className={styles.contact}>
          <Facts
            facts={[
              [t`Mail to`, told.emails.length > 0 ? told.emails.join(", ") : t`nobody`],
              [t`Mail server`, told.sends_mail ? t`named` : t`none: no mail is sent`],
              [t`Webhook`, told.webhook ? <code key="hook">{told.webhook}</code> : t`none`],
              ...(told.webhook ? ([[t`Its messages`, told.signed ? t`signed` : t`not signed`]] as const) : []),
            ]}
          />
          {may("apps:write") ? (
            <div className={styles.deeds}>
              <Button variant="default" size="xs" onClick={() => setChanging(true)}>
                <Trans>Change who is told</Trans>
              </Button>
              {told.webhook ? (
                <Button variant="default" size="xs" onClick={() => setSigning(true)}>
                  <Trans>Make a signing secret</Trans>
                </Button>
              ) : null}
            </div>
          ) : null}
        </div>
      ) : null}
      {changing && told ? <ContactForm team={team} contact={told} close={() => setChanging(false)} /> : null}
      {signing ? (
        <Confirm
          title={t`Make a signing secret?`}
          consequence={told?.signed ? t`Messages are signed with the new one at once; whoever checks them with the old one refuses them.` : t`Messages to the webhook are signed with it from now on.`}
          deed={t`Make the secret`}
          act={async () => {
            const made = await unwrap(api.POST("/api/v1/teams/{ref}/contact/secret", { params: { path: { ref: team } } }));
            setSecret(made.secret);
            await queries.invalidateQueries({ queryKey: ["teams"] });
          }}
          close={() => setSigning(false)}
        />
      ) : null}
      {secret ? <ShownOnce title={t`Signing secret of ${team}`} secret={secret} copy={t`Copy the secret`} close={() => setSecret(undefined)} /> : null}
    </Section>
  );
}

function ContactForm({ team, contact, close }: { team: string; contact: Contact; close: () => void }) {
  const may = useMay();
  const [emails, setEmails] = useState(contact.emails);
  const [webhook, setWebhook] = useState(contact.webhook ?? "");
  const queries = useQueryClient();
  return (
    <FormDialog
      title={t`Who is told of ${team}`}
      deed={t`Save`}
      complete
      act={() => unwrap(api.PUT("/api/v1/teams/{ref}/contact", { params: { path: { ref: team } }, body: { emails, webhook: webhook.trim() || null } }))}
      done={async () => {
        await queries.invalidateQueries({ queryKey: ["teams"] });
        close();
      }}
      close={close}
    >
      <TagsInput label={t`Mail to`} description={contact.sends_mail ? t`Up to 20 addresses` : t`This gateway has no mail server yet`} value={emails} onChange={setEmails} maxTags={20} placeholder="team@example.com" />
      <TextInput label={t`Webhook`} description={may("configuration:write") ? t`Gets notices by POST as JSON` : t`The gateway connects to it: whoever runs the gateway names it`} disabled={!may("configuration:write")} value={webhook} onChange={(event) => setWebhook(event.currentTarget.value)} placeholder="https://hooks.example.com/sluicegate" />
    </FormDialog>
  );
}

/** One identity provider: what it is, and what it says when asked for real. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, Skeleton } from "@mantine/core";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import type { SignOnProvider, SignOnTrial } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Id } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Count, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { ProviderForm } from "./ProviderForm";
import { policyQuery, removeProvider, signOnProvidersQuery, testProvider } from "./queries";
import styles from "./sign-on.module.css";

export function ProviderDrawer() {
  const { name } = useParams({ from: "/frame/sign-on/$name" });
  const navigate = useNavigate();
  const close = useCallback(() => void navigate({ to: "/sign-on", search: (old) => old }), [navigate]);
  const providers = useQuery(signOnProvidersQuery);
  const provider = providers.data?.find((each) => each.name === name);
  return (
    <Drawer title={provider?.label ?? name} label={t`Identity provider`} close={close}>
      {provider ? (
        <Details key={provider.id} provider={provider} close={close} />
      ) : providers.data ? (
        <p>
          <Trans>There is no provider {name} any more.</Trans>
        </p>
      ) : providers.error ? (
        <Problem error={providers.error} again={() => void providers.refetch()} />
      ) : (
        <Skeleton height={280} />
      )}
    </Drawer>
  );
}

function Details({ provider, close }: { provider: SignOnProvider; close: () => void }) {
  const mayChange = useMay()("sign-on:write");
  const redirect = useQuery(policyQuery).data?.redirect_uri;
  const trial = useMutation({ mutationFn: () => testProvider(provider.id) });
  const [doing, setDoing] = useState<"change" | "remove">();
  const queries = useQueryClient();
  return (
    <>
      <Group gap="xs">
        <Button size="xs" loading={trial.isPending} onClick={() => trial.mutate()}>
          <Trans>Test it for real</Trans>
        </Button>
        {mayChange ? (
          <>
            <Button size="xs" variant="default" onClick={() => setDoing("change")}>
              <Trans>Change</Trans>
            </Button>
            <Button size="xs" variant="subtle" color="red" onClick={() => setDoing("remove")}>
              <Trans>Remove</Trans>
            </Button>
          </>
        ) : null}
      </Group>
      {trial.error ? <Problem error={trial.error} /> : null}
      {trial.data ? <Trial trial={trial.data} /> : null}
      <Part title={t`The provider`}>
        <Facts
          facts={[
            [t`State`, provider.enabled ? <Mark key="s" tone="ok">{t`On`}</Mark> : <Mark key="s" tone="idle">{t`Off`}</Mark>],
            [t`Issuer`, <code key="i">{provider.issuer}</code>],
            [t`Client id`, <code key="c">{provider.client_id}</code>],
            [t`Client secret`, provider.has_secret ? t`sealed here` : t`none: PKCE alone`],
            [t`Scopes`, <code key="p">{provider.scopes}</code>],
            [t`Groups from`, <code key="g">{provider.groups_claim}</code>],
            [t`Name from`, <code key="n">{provider.name_claim}</code>],
            [t`SCIM's users`, provider.provisions ? t`come in by it: it is the directory's` : t`not by it, unless it is the only one`],
            [t`Users`, <Count key="u" n={provider.users} unit={t`users have come by it`} />],
            [t`Changed`, <When key="w" at={provider.updated_at} />],
          ]}
        />
      </Part>
      {redirect ? (
        <Part title={t`To be registered there`}>
          <Facts facts={[[t`Redirect URI`, <Id key="r" text={redirect} what={t`redirect URI`} />]]} />
        </Part>
      ) : null}
      {doing === "change" ? <ProviderForm before={provider} close={() => setDoing(undefined)} /> : null}
      {doing === "remove" ? (
        <Confirm
          title={t`Remove ${provider.label}?`}
          consequence={plural(provider.users, {
            one: "# user has come by it: they are signed out at once, and have no way in until another provider or a password lets them. The account stays.",
            other: "# users have come by it: they are signed out at once, and have no way in until another provider lets them. The accounts stay.",
          })}
          deed={t`Remove ${provider.label}`}
          act={async () => {
            await removeProvider(provider.id);
            close();
            await queries.invalidateQueries({ queryKey: ["sign-on"] });
          }}
          close={() => setDoing(undefined)}
        />
      ) : null}
    </>
  );
}

function Trial({ trial }: { trial: SignOnTrial }) {
  return (
    <Part title={trial.ok ? t`It works` : t`Something is wrong`}>
      <ul className={styles.findings} aria-label={t`What was found`}>
        {trial.findings.map((each) => (
          <li key={each.what}>
            <Mark tone={each.ok ? "ok" : "bad"}>{each.what}</Mark>
            <span>{each.found}</span>
            {each.fix ? <span className={styles.fix}>{each.fix}</span> : null}
          </li>
        ))}
      </ul>
    </Part>
  );
}

/** The certificate authority for intercepted TLS: make, download, renew, remove it, and who trusts it how. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton } from "@mantine/core";
import { IconDownload, IconRefresh } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useMay } from "@/api/session";
import { Empty, Problem } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { Id } from "@/ui/Copy";
import { Facts } from "@/ui/Drawer";
import { Until, When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { Page, Section } from "@/ui/Page";
import { authorityQuery, makeAuthority, removeAuthority, type Authority } from "./queries";
import { Tabs } from "./Tabs";
import { Trust } from "./Trust";

export function AuthorityPage() {
  const authority = useQuery(authorityQuery);
  const found = authority.data;
  return (
    <Page title={t`Interception`} line={t`Rules that terminate TLS answer in the server's name, with a certificate that clients must trust.`} action={found?.certificate ? <Download certificate={found.certificate} /> : null}>
      <Tabs here="/interception/authority" />
      {authority.error ? <Problem error={authority.error} again={() => void authority.refetch()} /> : null}
      {found ? found.certificate ? <Made authority={found} /> : <NotMade authority={found} /> : authority.error ? null : <Skeleton height={320} radius={8} />}
    </Page>
  );
}

/** A file of what the page has: the certificate is public. */
function Download({ certificate }: { certificate: string }) {
  return (
    <Button component="a" href={`data:application/x-pem-file,${encodeURIComponent(certificate)}`} download="sluicegate-ca.pem" leftSection={<IconDownload size={16} />}>
      <Trans>Download the certificate (PEM)</Trans>
    </Button>
  );
}

function NotMade({ authority }: { authority: Authority }) {
  const may = useMay()("authority:write");
  const queries = useQueryClient();
  const [making, setMaking] = useState(false);
  const wanted = authority.rules.length;
  return (
    <>
      <Empty
        title={t`There is no certificate authority`}
        why={
          wanted > 0
            ? t`Until there is one, the TLS of the rules that terminate it (${authority.rules.join(", ")}) passes through.`
            : t`No rule terminates TLS, so that none is needed. It would sign for the hosts of such rules alone, and for nobody else.`
        }
        action={may ? <Button onClick={() => setMaking(true)} disabled={wanted === 0}>{t`Make the authority`}</Button> : null}
        snippet="sluicegate ca create"
      />
      {making ? (
        <Confirm
          title={t`Make the authority?`}
          consequence={<Names authority={authority} lead={t`It can sign for these, and for nothing else:`} />}
          deed={t`Make it`}
          act={async () => {
            await makeAuthority("create");
            await queries.invalidateQueries({ queryKey: authorityQuery.queryKey });
          }}
          close={() => setMaking(false)}
        />
      ) : null}
    </>
  );
}

function Names({ authority, lead }: { authority: Authority; lead: string }) {
  const names = [...authority.wanted.hosts, ...authority.wanted.cidrs];
  return (
    <>
      <p>{lead}</p>
      <code>{names.slice(0, 20).join(", ")}</code>
    </>
  );
}

type Doing = "renew" | "replace" | "remove";

function Made({ authority }: { authority: Authority }) {
  const may = useMay()("authority:write");
  const [doing, setDoing] = useState<Doing>();
  return (
    <>
      {authority.missing.length > 0 ? (
        <Notice title={t`It does not cover all that rules terminate`}>
          <p>
            <Trans>
              The TLS of <code>{authority.missing.join(", ")}</code> passes through until the authority is renewed; clients then need the new certificate in place of the old one.
            </Trans>
          </p>
        </Notice>
      ) : null}
      <Section
        title={t`The authority`}
        aside={authority.covers ? <Mark tone="ok">{t`Valid for all that rules terminate`}</Mark> : <Mark tone="warn">{authority.missing.length > 0 ? t`Renewal needed` : t`Not valid now`}</Mark>}
      >
        <Facts
          facts={[
            [t`Name`, authority.name],
            [t`Fingerprint, SHA-256`, authority.fingerprint ? <Id key="f" text={authority.fingerprint} what={t`fingerprint`} /> : null],
            [t`Signs for`, <code key="s">{[...authority.permitted.hosts, ...authority.permitted.cidrs].join(", ") || "—"}</code>],
            ...(authority.surplus.length > 0 ? ([[t`Of these no longer wanted`, <code key="w">{authority.surplus.join(", ")}</code>]] as const) : []),
            [
              t`Rules that terminate TLS`,
              authority.rules.length === 0 ? t`none` : authority.rules.map((name, index) => (
                <span key={name}>
                  {index > 0 ? ", " : ""}
                  <Link to="/interception/rules/$name" params={{ name }} search={(old) => old}>{name}</Link>
                </span>
              )),
            ],
            [t`Made`, <When key="m" at={authority.created_at} />],
            ...(authority.renewed_at ? ([[t`Renewed`, <When key="r" at={authority.renewed_at} />]] as const) : []),
            [t`Valid for another`, authority.expires_at ? <Until key="u" at={authority.expires_at} /> : null],
          ]}
        />
        {may ? (
          <div>
            <Button variant={authority.covers ? "default" : "filled"} leftSection={<IconRefresh size={16} />} onClick={() => setDoing("renew")} mr={8}>
              <Trans>Renew it</Trans>
            </Button>
            <Button variant="default" onClick={() => setDoing("replace")} mr={8}>
              <Trans>Replace its key</Trans>
            </Button>
            <Button variant="default" onClick={() => setDoing("remove")}>
              <Trans>Remove it</Trans>
            </Button>
          </div>
        ) : null}
      </Section>
      <Trust />
      {doing ? <Deed doing={doing} authority={authority} close={() => setDoing(undefined)} /> : null}
    </>
  );
}

function Deed({ doing, authority, close }: { doing: Doing; authority: Authority; close: () => void }) {
  const queries = useQueryClient();
  const rules = authority.rules.length;
  const texts: Readonly<Record<Doing, { title: string; consequence: string; deed: string }>> = {
    renew: {
      title: t`Renew the authority?`,
      consequence: t`It gets a new certificate for the hosts as they are now, with the same key. Clients that have the former one go on with the former hosts; for new ones they need the new certificate in its place.`,
      deed: t`Renew it`,
    },
    replace: {
      title: t`Replace its key?`,
      consequence: plural(rules, {
        one: "Key and certificate are new. Until a client has been given the new certificate, it refuses every connection of the rule that terminates TLS.",
        other: "Key and certificate are new. Until a client has been given the new certificate, it refuses every connection of the # rules that terminate TLS.",
      }),
      deed: t`Replace key and certificate`,
    },
    remove: {
      title: t`Remove the authority?`,
      consequence: plural(rules, {
        one: "Its key is forgotten for good. From then on the TLS of the rule that terminates it passes through: routes, keys and limits no longer hold there.",
        other: "Its key is forgotten for good. From then on the TLS of all # rules that terminate it passes through: routes, keys and limits no longer hold there.",
      }),
      deed: t`Remove the authority`,
    },
  };
  return (
    <Confirm
      {...texts[doing]}
      act={async () => {
        await (doing === "remove" ? removeAuthority() : makeAuthority(doing));
        await queries.invalidateQueries({ queryKey: authorityQuery.queryKey });
      }}
      close={close}
    />
  );
}

/** What can be called here: services with their models, prices and owners; who may call them, and how to ask. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Skeleton, TextInput } from "@mantine/core";
import { IconSearch } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams, useSearch } from "@tanstack/react-router";
import { useMemo, useState } from "react";
import type { Service } from "@/api/model";
import { sessionQuery, useMay } from "@/api/session";
import { RequestForm } from "@/features/access/RequestForm";
import { Empty, Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import styles from "./catalogue.module.css";
import { catalogueQuery } from "./queries";
import { ACCESS, Price, Standing } from "./words";

export function CataloguePage() {
  const may = useMay();
  const services = useQuery(catalogueQuery);
  const team = useQuery(sessionQuery).data?.team;
  const { q } = useSearch({ from: "/frame/catalogue" });
  const navigate = useNavigate();
  const [asking, setAsking] = useState<string[]>();
  const found = useMemo(() => services.data?.filter((service) => fits(service, q ?? "")), [services.data, q]);
  const seek = (words: string): void => void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, q: words || undefined }), replace: true });
  const canAsk = may("access:request") && services.data !== undefined && services.data.length > 0;
  return (
    <Page
      title={t`Catalogue`}
      line={team ? t`What apps of ${team} may call or ask for, what it costs, and code that calls it.` : t`Routes as app teams see them: what each is for, what it costs, and code that calls it.`}
      action={
        canAsk ? (
          <Button onClick={() => setAsking([])}>
            <Trans>Ask for access</Trans>
          </Button>
        ) : null
      }
    >
      {services.error ? <Problem error={services.error} again={() => void services.refetch()} /> : null}
      {services.data && services.data.length > 0 ? (
        <TextInput className={styles.seek ?? ""} leftSection={<IconSearch size={15} />} placeholder={t`Name, purpose or model`} aria-label={t`Look for a service`} value={q ?? ""} onChange={(event) => seek(event.currentTarget.value)} />
      ) : null}
      {services.isPending ? <Skeleton height={220} radius={8} /> : null}
      {services.data?.length === 0 ? (
        <Empty
          title={t`No services`}
          why={may("configuration:write") ? t`Each route is a service here, unless it is shown to certain teams only. There is no route yet.` : t`Nothing is shown to your team yet. Whoever runs this gateway adds routes, and decides which teams see them.`}
          action={
            may("configuration:write") ? (
              <Button component={Link} to="/routes">
                <Trans>Go to routes</Trans>
              </Button>
            ) : null
          }
        />
      ) : null}
      {found && found.length === 0 && services.data && services.data.length > 0 ? <p className={styles.quiet}>{t`No service has these words in its name, description or models.`}</p> : null}
      <ul className={styles.services} aria-label={t`Services`}>
        {found?.map((service) => (
          <Card key={service.id} service={service} ask={may("access:request") ? () => setAsking([service.name]) : undefined} />
        ))}
      </ul>
      {asking ? <RequestForm routes={asking} close={() => setAsking(undefined)} /> : null}
      <Outlet />
    </Page>
  );
}

function Card({ service, ask }: { service: Service; ask: (() => void) | undefined }) {
  const openName = useParams({ strict: false, select: (params) => params.name });
  const shown = service.models.slice(0, 3);
  const canAsk = ask !== undefined && service.access !== "closed" && service.apps.length === 0 && service.pending.length === 0;
  return (
    <li className={styles.card} data-open={openName === service.name || undefined}>
      <div className={styles.top}>
        <h2>
          <Link to="/catalogue/$name" params={{ name: service.name }} search={(old) => old}>
            {service.title}
          </Link>
        </h2>
        {service.title === service.name ? null : <code>{service.name}</code>}
      </div>
      {service.description ? <p className={styles.about}>{service.description}</p> : <p className={styles.quiet}>{t`Nothing is said about it yet.`}</p>}
      <dl className={styles.models}>
        {service.kind === "http" ? (
          <div>
            <dt>
              <code>{(service.match?.host ?? "") + (service.match?.path ?? "")}</code>
            </dt>
            <dd>{t`HTTP API`}</dd>
          </div>
        ) : (
          shown.map((model, at) => (
            <div key={at}>
              <dt>
                <code>{model.model}</code>
              </dt>
              <dd>
                <Price model={model} />
              </dd>
            </div>
          ))
        )}
        {service.models.length > shown.length && service.kind === "model" ? <div className={styles.quiet}>{t`and ${service.models.length - shown.length} more`}</div> : null}
      </dl>
      <div className={styles.foot}>
        <Standing service={service} />
        <span className={styles.quiet} title={ACCESS[service.access].why}>
          {ACCESS[service.access].label}
        </span>
        {canAsk ? (
          <Button variant="default" size="compact-sm" onClick={ask} aria-label={t`Ask for access to ${service.title}`}>
            {t`Ask for access`}
          </Button>
        ) : null}
      </div>
    </li>
  );
}

function fits(service: Service, words: string): boolean {
  const text = [service.name, service.title, service.description ?? "", ...service.models.map((each) => each.model ?? "")].join(" ").toLowerCase();
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

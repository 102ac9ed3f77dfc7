/** One service: what it is, what it costs, which limits count, who may call it, and code to paste. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, SegmentedControl, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { lazy, Suspense, useCallback, useState } from "react";
import type { CallExample, Service } from "@/api/model";
import { useMay } from "@/api/session";
import { RequestForm } from "@/features/access/RequestForm";
import { Problem } from "@/ui/Answer";
import { Snippet } from "@/ui/Copy";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { When } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { exact } from "@/units/count";
import styles from "./catalogue.module.css";
import { serviceQuery } from "./queries";
import { ACCESS, limitWords, Price } from "./words";

const TryOut = lazy(() => import("./TryOut"));

export function ServiceDrawer() {
  const { name } = useParams({ from: "/frame/catalogue/$name" });
  const navigate = useNavigate();
  const service = useQuery(serviceQuery(name));
  const close = useCallback(() => void navigate({ to: "/catalogue", search: (old) => old }), [navigate]);
  return (
    <Drawer title={service.data?.title ?? name} label={t`Service ${name}`} close={close}>
      {service.error ? <Problem error={service.error} again={() => void service.refetch()} /> : null}
      {service.data ? <Details service={service.data} /> : service.error ? null : <Skeleton height={320} />}
    </Drawer>
  );
}

function Details({ service }: { service: Service }) {
  const may = useMay();
  const [asking, setAsking] = useState(false);
  return (
    <>
      {service.description ? <p className={styles.prose}>{service.description}</p> : null}
      <Part title={t`Service`}>
        <Facts
          facts={[
            [service.kind === "model" ? t`Written as the model` : t`Claims`, <code key="n">{service.kind === "model" ? service.name : (service.match?.host ?? "") + (service.match?.path ?? "")}</code>],
            [t`Owner`, service.owner ?? t`not named`],
            ...(service.documentation
              ? ([
                  [
                    t`Documentation`,
                    <a key="d" href={service.documentation} target="_blank" rel="noreferrer">
                      {new URL(service.documentation).host}
                    </a>,
                  ],
                ] as const)
              : []),
            ...(service.max_output_tokens === null ? [] : ([[t`Reserved for an answer without a bound`, t`${exact(service.max_output_tokens)} tokens`]] as const)),
            ...(service.teams && may("configuration:read") ? ([[t`Shown to`, service.teams.length > 0 ? service.teams.join(", ") : t`teams whose apps may call it`]] as const) : []),
          ]}
        />
      </Part>
      {service.kind === "model" || service.models.some((model) => model.price !== null) ? (
        <Part title={service.kind === "model" ? t`Price of a million tokens` : t`Price`}>
          <dl className={styles.models}>
            {service.models.map((model, at) => (
              <div key={at}>
                <dt>
                  <code>{model.model ?? service.name}</code>
                </dt>
                <dd>
                  <Price model={model} />
                </dd>
              </div>
            ))}
          </dl>
        </Part>
      ) : null}
      <Part title={t`Access`}>
        <p className={styles.needs}>
          <b>{ACCESS[service.access].label}.</b> {ACCESS[service.access].why}.
        </p>
        <ul className={styles.list} aria-label={t`Apps that may call it`}>
          {service.apps.map((each) => (
            <li key={each.app}>
              <Link to="/apps/$name" params={{ name: each.app }}>
                {each.app}
              </Link>
              <Mark tone="ok">
                {each.expires_at ? (
                  <Trans>
                    until <When at={each.expires_at} />
                  </Trans>
                ) : (
                  t`for good`
                )}
              </Mark>
            </li>
          ))}
          {service.pending.map((number) => (
            <li key={number}>
              <Link to="/access-requests/$id" params={{ id: String(number) }}>
                <Trans>Request {number}</Trans>
              </Link>
              <Mark tone="warn">{t`awaits a decision`}</Mark>
            </li>
          ))}
        </ul>
        {may("access:request") && service.access !== "closed" ? (
          <Button mt={10} size="xs" variant={service.apps.length > 0 ? "default" : "filled"} onClick={() => setAsking(true)}>
            <Trans>Ask for access</Trans>
          </Button>
        ) : null}
      </Part>
      {service.limits.length > 0 ? (
        <Part title={t`Limits that calls count for`}>
          <ul className={styles.list} aria-label={t`Limits`}>
            {service.limits.map((limit, at) => {
              const { most, whose } = limitWords(limit);
              return (
                <li key={at}>
                  <b>{most}</b>
                  <span>
                    {whose}
                    {limit.this_route && limit.limit ? t`, this service alone` : ""}
                  </span>
                </li>
              );
            })}
          </ul>
        </Part>
      ) : null}
      <Examples service={service} />
      {service.has_openapi ? (
        <Suspense fallback={<Skeleton height={200} />}>
          <TryOut service={service} />
        </Suspense>
      ) : null}
      {asking ? <RequestForm routes={[service.name]} close={() => setAsking(false)} /> : null}
    </>
  );
}

const LANGUAGES: Readonly<Record<CallExample["language"], string>> = { curl: "curl", python: "Python", node: "Node" };
const DIALECTS: Readonly<Record<CallExample["dialect"], string>> = { openai: "OpenAI", anthropic: "Anthropic", gemini: "Gemini", mistral: "Mistral", ollama: "Ollama", http: "HTTP" };

function Examples({ service }: { service: Service }) {
  const dialects = [...new Set(service.examples.map((each) => each.dialect))];
  const [wanted, setWanted] = useState<CallExample["dialect"]>();
  const [language, setLanguage] = useState<CallExample["language"]>("curl");
  const dialect = wanted ?? dialects[0];
  const inDialect = service.examples.filter((each) => each.dialect === dialect);
  const shown = inDialect.find((each) => each.language === language) ?? inDialect[0];
  if (!shown || !dialect) return null;
  return (
    <Part title={t`Call it`}>
      <div className={styles.choices}>
        {dialects.length > 1 ? (
          <SegmentedControl size="xs" aria-label={t`In which dialect`} data={dialects.map((each) => ({ value: each, label: DIALECTS[each] }))} value={dialect} onChange={(chosen) => setWanted(chosen as CallExample["dialect"])} />
        ) : null}
        <SegmentedControl size="xs" aria-label={t`In which language`} data={inDialect.map((each) => ({ value: each.language, label: LANGUAGES[each.language] }))} value={shown.language} onChange={(chosen) => setLanguage(chosen as CallExample["language"])} />
      </div>
      <p className={styles.needs}>
        {shown.needs ? (
          <Trans>
            Needs <code>{shown.needs}</code>, and a key of your app in <code>SLUICEGATE_KEY</code>.
          </Trans>
        ) : (
          <Trans>
            Needs a key of your app in <code>SLUICEGATE_KEY</code>.
          </Trans>
        )}
      </p>
      <Snippet text={shown.code.trimEnd()} what={t`example in ${LANGUAGES[shown.language]}`} />
    </Part>
  );
}

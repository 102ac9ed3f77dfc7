/** Tries an HTTP service out: one of its operations, sent from this page through the gateway's data plane with a key. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, PasswordInput, Select, Skeleton, Textarea, TextInput } from "@mantine/core";
import { useMutation, useQuery } from "@tanstack/react-query";
import { useState } from "react";
import type { Service } from "@/api/model";
import { useMay } from "@/api/session";
import { Problem } from "@/ui/Answer";
import { Part } from "@/ui/Drawer";
import { Notice } from "@/ui/Notice";
import { bytes } from "@/units/count";
import { latency } from "@/units/time";
import styles from "./catalogue.module.css";
import { address, operationsOf, type Operation } from "./openapi";
import { makeTrialKey, openApiQuery } from "./queries";
import { send, type Answer } from "./send";

export default function TryOut({ service }: { service: Service }) {
  const document = useQuery(openApiQuery(service.name));
  if (document.error) return <Problem error={document.error} again={() => void document.refetch()} />;
  if (!document.data) return <Skeleton height={200} />;
  const operations = operationsOf(document.data);
  return (
    <Part title={t`Try it out`}>
      {service.match?.host ? (
        <Notice title={t`It is known by its host name`}>
          <Trans>
            A page cannot choose the host that it calls. Use the curl example above, with the paths below: {operations.map((each) => each.id).join(", ")}.
          </Trans>
        </Notice>
      ) : !service.base_url.startsWith(window.location.origin) ? (
        <Notice title={t`The data plane is at another address`}>
          <Trans>This page may call its own address only. Use the curl example above.</Trans>
        </Notice>
      ) : operations.length === 0 ? (
        <p className={styles.needs}>{t`The document has no operations.`}</p>
      ) : (
        <Trial service={service} operations={operations} />
      )}
    </Part>
  );
}

function Trial({ service, operations }: { service: Service; operations: readonly Operation[] }) {
  const may = useMay();
  const [id, setId] = useState(operations[0]!.id);
  const [values, setValues] = useState<Readonly<Record<string, string>>>({});
  const [bodies, setBodies] = useState<Readonly<Record<string, string>>>({});
  const [key, setKey] = useState("");
  const operation = operations.find((each) => each.id === id) ?? operations[0]!;
  const body = operation.body === undefined ? undefined : (bodies[id] ?? operation.body);
  const trial = useMutation({
    mutationFn: () => send({ method: operation.method, path: address(operation, values, service.match?.path ?? ""), key, body, headers: headersOf(operation, values) }),
  });
  const making = useMutation({ mutationFn: (app: string) => makeTrialKey(app), onSuccess: (made) => setKey(made.key) });
  const complete = key.trim() !== "" && operation.parameters.every((each) => !each.required || values[`${each.in} ${each.name}`]);
  return (
    <form
      className={styles.trial}
      onSubmit={(event) => {
        event.preventDefault();
        trial.mutate();
      }}
    >
      <Select
        label={t`Operation`}
        data={operations.map((each) => ({ value: each.id, label: each.summary ? `${each.method} ${each.path} · ${each.summary}` : `${each.method} ${each.path}` }))}
        value={id}
        allowDeselect={false}
        searchable
        onChange={(chosen) => setId(chosen ?? id)}
      />
      {operation.parameters.length > 0 ? (
        <div className={styles.parameters}>
          {operation.parameters.map((each) => {
            const name = `${each.in} ${each.name}`;
            return <TextInput key={name} label={each.name} description={each.description || each.in} required={each.required} value={values[name] ?? ""} onChange={(event) => setValues({ ...values, [name]: event.currentTarget.value })} />;
          })}
        </div>
      ) : null}
      {body === undefined ? null : <Textarea label={t`Body, JSON`} autosize minRows={3} maxRows={12} value={body} onChange={(event) => setBodies({ ...bodies, [id]: event.currentTarget.value })} classNames={{ input: "mono" }} />}
      <PasswordInput label={t`Key`} description={t`Of an app that may call it; it stays in this page`} required value={key} onChange={(event) => setKey(event.currentTarget.value)} autoComplete="off" />
      <Group gap="xs">
        <Button type="submit" loading={trial.isPending} disabled={!complete}>
          {t`Send ${operation.method}`}
        </Button>
        {may("keys:write")
          ? service.apps.slice(0, 3).map((each) => (
              <Button key={each.app} variant="default" loading={making.isPending} onClick={() => making.mutate(each.app)}>
                {t`Use a key of ${each.app} for ten minutes`}
              </Button>
            ))
          : null}
      </Group>
      {making.error ? <Problem error={making.error} /> : null}
      {trial.error ? <Problem error={trial.error} /> : null}
      {trial.data ? <Came answer={trial.data} /> : null}
    </form>
  );
}

const headersOf = (operation: Operation, values: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(operation.parameters.flatMap((each) => (each.in === "header" && values[`header ${each.name}`] ? [[each.name, values[`header ${each.name}`]!]] : [])));

function Came({ answer }: { answer: Answer }) {
  return (
    <figure className={styles.answer} aria-label={t`Answer`}>
      <figcaption>
        <b>{answer.status}</b> · {latency(answer.tookMs)} · {bytes(answer.size)}
        {answer.requestId ? (
          <>
            {" · "}
            <Trans>
              request <code>{answer.requestId}</code>
            </Trans>
          </>
        ) : null}
      </figcaption>
      <pre tabIndex={0}>{answer.text || t`(no body)`}</pre>
    </figure>
  );
}

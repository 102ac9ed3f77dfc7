/** What would happen to a request: who may ask, which target would answer and why, which limit would refuse. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, NumberInput, Select, TextInput } from "@mantine/core";
import { IconHelpHexagon } from "@tabler/icons-react";
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import { api, unwrap } from "@/api/client";
import type { DialectName } from "@/api/model";
import { appsQuery, keysQuery } from "@/features/apps/queries";
import { routesQuery } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Page } from "@/ui/Page";
import { Explained } from "./Explained";
import styles from "./explain.module.css";
import type { ExplainSearch } from "./search";

const DIALECTS: readonly DialectName[] = ["openai", "anthropic", "gemini", "mistral", "ollama"];
const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

const explainQuery = (asked: ExplainSearch) =>
  queryOptions({
    queryKey: ["explain", asked],
    enabled: asked.route !== undefined,
    staleTime: 0,
    queryFn: () =>
      unwrap(
        api.POST("/api/v1/routes/{ref}/explain", {
          params: { path: { ref: asked.route ?? "" } },
          body: {
            ...(asked.app ? { app: asked.app } : {}),
            ...(asked.key ? { key: asked.key } : {}),
            ...(asked.dialect ? { dialect: asked.dialect as DialectName } : {}),
            ...(asked.method ? { method: asked.method } : {}),
            ...(asked.host ? { host: asked.host } : {}),
            ...(asked.path ? { path: asked.path } : {}),
            ...(asked.input !== undefined ? { input_tokens: asked.input } : {}),
            ...(asked.output !== undefined ? { output_tokens: asked.output } : {}),
          },
        }),
      ),
  });

export function ExplainPage() {
  const asked = useSearch({ from: "/frame/explain" });
  const told = useQuery(explainQuery(asked));
  return (
    <Page title={t`What would happen to this request?`} line={t`One worker answers, by what it knows now of health, load and limits. Nothing is sent, counted or reserved.`}>
      <div className={styles.page}>
        <Question key={asked.route} asked={asked} asking={told.isFetching} />
        <div className={styles.answer} aria-live="polite">
          {told.error ? <Problem error={told.error} again={() => void told.refetch()} /> : null}
          {told.data ? <Explained told={told.data} /> : null}
          {asked.route === undefined ? (
            <p className={styles.quiet}>
              <Trans>Choose a route and say who asks. What is left open stays open in the answer, or is as usual.</Trans>
            </p>
          ) : null}
        </div>
      </div>
    </Page>
  );
}

function Question({ asked, asking }: { asked: ExplainSearch; asking: boolean }) {
  const routes = useQuery(routesQuery).data ?? [];
  const apps = useQuery(appsQuery).data ?? [];
  const keys = useQuery(keysQuery).data ?? [];
  const [wanted, setWanted] = useState<ExplainSearch>(asked);
  const navigate = useNavigate();
  const route = routes.find((each) => each.name === wanted.route);
  const isHttp = route?.match !== null && route?.match !== undefined;
  const set = (part: ExplainSearch): void => setWanted({ ...wanted, ...part });
  const text = (value: string): string | undefined => (value.trim() === "" ? undefined : value.trim());
  const figure = (value: number | string): number | undefined => (value === "" ? undefined : Number(value));

  function ask(event: FormEvent): void {
    event.preventDefault();
    void navigate({ to: "/explain", search: (old) => ({ ...(old.range ? { range: old.range } : {}), ...wanted }) });
  }

  return (
    <form className={styles.question} onSubmit={ask} aria-label={t`The request`}>
      <Select label={t`Route`} required data={routes.map((each) => each.name)} value={wanted.route ?? null} onChange={(chosen) => set({ route: chosen ?? undefined })} searchable placeholder={t`Which route`} />
      <Select
        label={t`App`}
        data={apps.map((each) => each.name)}
        value={wanted.app ?? null}
        onChange={(chosen) => set({ app: chosen ?? undefined, key: undefined })}
        searchable
        clearable
        clearButtonProps={{ "aria-label": t`No app` }}
        placeholder={t`Nobody in particular`}
      />
      {wanted.app ? (
        <Select
          label={t`Key`}
          data={keys.filter((each) => each.app === wanted.app).map((each) => ({ value: `${each.app}/${each.name}`, label: each.name }))}
          value={wanted.key ?? null}
          onChange={(chosen) => set({ key: chosen ?? undefined })}
          clearable
          clearButtonProps={{ "aria-label": t`No key` }}
          placeholder={t`Any`}
        />
      ) : null}
      {isHttp ? (
        <>
          <Select label={t`Method`} data={METHODS} value={wanted.method ?? "POST"} allowDeselect={false} onChange={(chosen) => set({ method: chosen ?? undefined })} />
          <TextInput label={t`Host`} value={wanted.host ?? ""} onChange={(event) => set({ host: text(event.currentTarget.value) })} placeholder={route?.match?.host ?? "api.internal"} />
          <TextInput label={t`Path`} value={wanted.path ?? ""} onChange={(event) => set({ path: text(event.currentTarget.value) })} placeholder={route?.match?.path ?? "/"} />
        </>
      ) : (
        <>
          <Select
            label={t`Dialect`}
            data={[...DIALECTS]}
            value={wanted.dialect ?? null}
            onChange={(chosen) => set({ dialect: chosen ?? undefined })}
            clearable
            clearButtonProps={{ "aria-label": t`As the route's first target` }}
            placeholder={t`The first target's`}
          />
          <NumberInput label={t`Input tokens`} min={0} allowDecimal={false} thousandSeparator="," hideControls value={wanted.input ?? ""} onChange={(value) => set({ input: figure(value) })} placeholder="0" />
          <NumberInput label={t`Output tokens, at most`} min={0} allowDecimal={false} thousandSeparator="," hideControls value={wanted.output ?? ""} onChange={(value) => set({ output: figure(value) })} placeholder={route ? String(route.max_output_tokens) : "4096"} />
        </>
      )}
      <Button type="submit" leftSection={<IconHelpHexagon size={16} />} disabled={!wanted.route} loading={asking}>
        <Trans>Explain</Trans>
      </Button>
    </form>
  );
}

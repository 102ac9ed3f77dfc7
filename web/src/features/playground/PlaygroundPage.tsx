/** Any route, in any dialect, streamed, on one target or on two beside each other, and the same call as code. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, NumberInput, SegmentedControl, Select, Skeleton, Switch, Textarea, TextInput } from "@mantine/core";
import { IconColumns2, IconPlayerPlayFilled, IconPlayerStopFilled } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useSearch } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import type { App } from "@/api/model";
import { appsQuery } from "@/features/apps/queries";
import { Empty, Problem } from "@/ui/Answer";
import { Notice } from "@/ui/Notice";
import { Page } from "@/ui/Page";
import { Answer } from "./Answer";
import { ROUTE_DECIDES, type PlaygroundSearch } from "./choice";
import { Code } from "./Code";
import { httpWireOf, SPEECH, wireOf, type Ask, type HttpAsk, type ModelDialect } from "./dialects";
import styles from "./playground.module.css";
import { playgroundQuery, type RouteToTry } from "./queries";
import { usePlay } from "./usePlay";

const LINE = () => t`Try a route as an app would: its limits, prices and the ledger hold here too.`;

export function PlaygroundPage() {
  const tried = useQuery(playgroundQuery);
  const apps = useQuery(appsQuery);
  const error = tried.error ?? apps.error;
  // What was loaded once is gone on with, and so is what was typed.
  if (error && !(tried.data && apps.data)) {
    return (
      <Page title={t`Playground`} line={LINE()}>
        <Problem error={error} again={() => void Promise.all([tried.refetch(), apps.refetch()])} />
      </Page>
    );
  }
  if (!tried.data || !apps.data) {
    return (
      <Page title={t`Playground`} line={LINE()}>
        <Skeleton height={420} radius={8} />
      </Page>
    );
  }
  if (!tried.data.here) {
    return (
      <Page title={t`Playground`} line={LINE()}>
        <Notice title={t`This address serves the console alone`} snippet="sluicegate key create --app APP">
          <Trans>
            The gateway runs with <code>--admin-listen</code>, so that a page from here cannot reach the data plane at {tried.data.data_plane}. Make a key and call it from a program.
          </Trans>
        </Notice>
      </Page>
    );
  }
  if (tried.data.routes.length === 0 || apps.data.length === 0) {
    const noRoutes = tried.data.routes.length === 0;
    return (
      <Page title={t`Playground`} line={LINE()}>
        <Empty
          title={noRoutes ? t`There is no route to try yet` : t`There is no app to call as yet`}
          why={noRoutes ? t`A route says which provider's model answers a call. With one, it can be tried here.` : t`Every call is an app's: its limits hold and its budget pays.`}
          action={
            <Button component={Link} to={noRoutes ? "/routes" : "/apps"}>
              {noRoutes ? t`Add a route` : t`Add an app`}
            </Button>
          }
        />
      </Page>
    );
  }
  return <Bench routes={tried.data.routes} apps={apps.data} />;
}

const mayCall = (app: App, route: string): boolean => app.routes === "*" || app.routes.includes(route);

function Bench({ routes, apps }: { routes: readonly RouteToTry[]; apps: readonly App[] }) {
  const search = useSearch({ from: "/frame/playground" });
  const navigate = useNavigate();
  const choose = (part: PlaygroundSearch): void => void navigate({ to: "/playground", search: (old) => ({ ...old, ...part }), replace: true });

  const route = routes.find((each) => each.name === search.route) ?? routes.find((each) => !each.match && apps.some((app) => mayCall(app, each.name))) ?? routes[0]!;
  const allowed = apps.filter((app) => mayCall(app, route.name));
  const app = allowed.find((each) => each.name === search.app) ?? allowed[0];
  const spoken = route.dialects.find((each) => each.dialect === search.dialect) ?? route.dialects[0];
  const targets = spoken?.targets ?? [];
  const target = search.target && targets.includes(search.target) ? search.target : null;
  const beside = search.beside && (search.beside === ROUTE_DECIDES || targets.includes(search.beside)) ? search.beside : null;

  const [asked, setAsked] = useState<Omit<Ask, "route">>({ system: "", prompt: t`In one sentence: why is the sky blue?`, temperature: null, maxTokens: 256, stream: true });
  const [http, setHttp] = useState<Omit<HttpAsk, "path"> & { path: string | null }>({ method: "GET", path: null, body: "" });
  const left = usePlay();
  const right = usePlay();
  const running = left.play.state === "running" || right.play.state === "running";

  const dialect = spoken && spoken.dialect !== "http" && !route.match ? (spoken.dialect as ModelDialect) : null;
  const ask: Ask = { ...asked, route: route.name };
  const wire = dialect ? wireOf(dialect, ask) : httpWireOf({ ...http, path: http.path ?? route.match?.path ?? "/" });
  const byHost = route.match?.host ?? null;
  const stopped = app === undefined || spoken === undefined || byHost !== null || (dialect !== null && ask.prompt.trim() === "");

  function send(event?: FormEvent): void {
    event?.preventDefault();
    if (stopped) return;
    const key = (bound: string | null) => ({ app: app!.name, route: route.name, target: bound });
    left.send({ wire, dialect, key: key(target) });
    if (beside !== null) right.send({ wire, dialect, key: key(beside === ROUTE_DECIDES ? null : beside) });
  }
  function stop(): void {
    left.stop();
    right.stop();
  }

  const targetChoices = [{ value: ROUTE_DECIDES, label: t`Where the route sends it` }, ...targets.map((name) => ({ value: name, label: name }))];
  return (
    <Page title={t`Playground`} line={LINE()}>
      <div className={styles.bench}>
        <form className={styles.form} onSubmit={send} aria-label={t`The call`}>
          <Select
            label={t`Route`}
            data={routes.map((each) => each.name)}
            value={route.name}
            allowDeselect={false}
            searchable={routes.length > 8}
            onChange={(chosen) => choose({ route: chosen ?? undefined, dialect: undefined, target: undefined, beside: undefined })}
          />
          <Select
            label={t`As app`}
            data={allowed.map((each) => ({ value: each.name, label: `${each.name} · ${each.team}` }))}
            value={app?.name ?? null}
            allowDeselect={false}
            searchable={allowed.length > 8}
            error={app ? null : t`No app that you see may call this route`}
            onChange={(chosen) => choose({ app: chosen ?? undefined })}
          />
          {dialect ? (
            <div>
              <div className={styles.label} id="playground-dialect">{t`Dialect`}</div>
              <SegmentedControl
                fullWidth
                size="xs"
                aria-labelledby="playground-dialect"
                value={dialect}
                data={route.dialects.flatMap((each) => (each.dialect === "http" ? [] : [{ value: each.dialect, label: SPEECH[each.dialect].label }]))}
                onChange={(chosen) => choose({ dialect: chosen, target: undefined, beside: undefined })}
              />
            </div>
          ) : null}
          <Select label={t`Target`} data={targetChoices} value={target ?? ROUTE_DECIDES} allowDeselect={false} onChange={(chosen) => choose({ target: chosen === ROUTE_DECIDES ? undefined : (chosen ?? undefined) })} />
          {beside === null ? (
            <Button
              variant="default"
              leftSection={<IconColumns2 size={16} />}
              onClick={() => choose({ beside: targets.find((name) => name !== target && (target !== null || name !== targets[0])) ?? ROUTE_DECIDES })}
            >
              <Trans>Compare with another target</Trans>
            </Button>
          ) : (
            <Select
              label={t`Beside it`}
              data={targetChoices}
              value={beside}
              clearable
              clearButtonProps={{ "aria-label": t`Do not compare` }}
              onChange={(chosen) => {
                if (chosen === null) right.clear();
                choose({ beside: chosen ?? undefined });
              }}
            />
          )}
          {dialect ? <Question asked={asked} change={(part) => setAsked({ ...asked, ...part })} send={send} /> : <HttpFields http={{ ...http, path: http.path ?? route.match?.path ?? "/" }} change={(part) => setHttp({ ...http, ...part })} />}
          {byHost !== null ? (
            <p className={styles.note}>
              <Trans>
                This route claims the host <code>{byHost}</code>, which a page of another host cannot call. The code below can.
              </Trans>
            </p>
          ) : null}
          {/* By their keys two elements: one that became the other within its own click would send what it has just stopped. */}
          {running ? (
            <Button key="stop" type="button" variant="default" leftSection={<IconPlayerStopFilled size={15} />} onClick={stop}>
              <Trans>Stop</Trans>
            </Button>
          ) : (
            <Button key="send" type="submit" disabled={stopped} leftSection={<IconPlayerPlayFilled size={15} />}>
              {beside === null ? t`Send as ${app?.name ?? "…"}` : t`Send to both as ${app?.name ?? "…"}`}
            </Button>
          )}
          <p className={styles.note}>
            <Trans>Calls here are real: they count against the limits of the app, and its budget pays. The key for them ends after ten minutes and stays in this tab.</Trans>
          </p>
        </form>
        <div className={styles.side}>
          <div className={styles.answers} data-both={beside !== null}>
            <Answer title={target ?? t`${route.name}, as the route decides`} app={app?.name ?? ""} play={left.play} />
            {beside === null ? null : <Answer title={beside === ROUTE_DECIDES ? t`${route.name}, as the route decides` : beside} app={app?.name ?? ""} play={right.play} />}
          </div>
          <Code dialect={dialect} ask={ask} wire={wire} host={byHost} />
        </div>
      </div>
    </Page>
  );
}

interface QuestionProps {
  asked: Omit<Ask, "route">;
  change: (part: Partial<Ask>) => void;
  send: () => void;
}

function Question({ asked, change, send }: QuestionProps) {
  const number = (value: string | number): number | null => (value === "" ? null : Number(value));
  return (
    <>
      <Textarea label={t`System prompt`} rows={2} value={asked.system} placeholder={t`None`} onChange={(event) => change({ system: event.currentTarget.value })} />
      <Textarea
        label={t`Prompt`}
        description={t`Ctrl+Enter sends it`}
        rows={4}
        dir="auto"
        value={asked.prompt}
        onChange={(event) => change({ prompt: event.currentTarget.value })}
        onKeyDown={(event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
        }}
      />
      <div className={styles.pair}>
        <NumberInput label={t`Temperature`} min={0} max={2} step={0.1} decimalScale={2} placeholder={t`The model's`} value={asked.temperature ?? ""} onChange={(value) => change({ temperature: number(value) })} />
        <NumberInput label={t`Tokens at most`} min={1} max={1_000_000} allowDecimal={false} placeholder={t`The model's`} value={asked.maxTokens ?? ""} onChange={(value) => change({ maxTokens: number(value) })} />
      </div>
      <Switch label={t`Streamed`} checked={asked.stream} onChange={(event) => change({ stream: event.currentTarget.checked })} />
    </>
  );
}

const METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"];

function HttpFields({ http, change }: { http: HttpAsk; change: (part: Partial<HttpAsk>) => void }) {
  return (
    <>
      <div className={styles.request}>
        <Select label={t`Method`} data={METHODS} value={http.method} allowDeselect={false} onChange={(chosen) => change({ method: chosen ?? "GET" })} />
        <TextInput label={t`Path`} value={http.path} onChange={(event) => change({ path: event.currentTarget.value })} />
      </div>
      {http.method === "GET" ? null : <Textarea label={t`Body, JSON`} rows={6} value={http.body} onChange={(event) => change({ body: event.currentTarget.value })} />}
    </>
  );
}

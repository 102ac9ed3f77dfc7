/** Step two: what callers ask for, who may ask for it, and what it may cost. */
import { t } from "@lingui/core/macro";
import { Autocomplete, Button, NumberInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState, type FormEvent } from "react";
import type { Route } from "@/api/model";
import { makeApp, makeKey, makeTeam } from "@/features/apps/queries";
import { makeRoute } from "@/features/routes/queries";
import { targetNames } from "@/features/routes/target";
import { Problem } from "@/ui/Answer";
import { makeBudget } from "./queries";
import styles from "./start.module.css";

export interface Made {
  route: string;
  app: string;
  /** Readable in this page only. */
  key: string | undefined;
}

interface RouteStepProps {
  provider: string;
  /** Those that the provider lists; undefined: it was not asked. */
  models: readonly string[] | undefined;
  teams: readonly string[];
  routes: readonly Route[];
  apps: readonly string[];
  done: (made: Made) => void;
}

export function RouteStep({ provider, models, teams, routes, apps, done }: RouteStepProps) {
  const only = models?.length === 1 ? models[0] : undefined;
  const [model, setModel] = useState(only ?? "");
  // A route that nobody may call yet is what an earlier visit has left.
  const [route, setRoute] = useState(routes.find((each) => each.match === null)?.name ?? "chat");
  const [team, setTeam] = useState(teams[0] ?? "platform");
  const [app, setApp] = useState(free("first-app", apps));
  const [budget, setBudget] = useState<number | string>(10);
  const queries = useQueryClient();
  const own = useRef(new Set<string>());
  /** Each of them stays where a later one is refused, and is not made again by the next try. */
  const once = async (what: string, make: () => Promise<unknown>): Promise<void> => {
    if (own.current.has(what)) return;
    await make();
    own.current.add(what);
  };

  const wanted = { model: model.trim(), route: route.trim(), team: team.trim(), app: app.trim() };
  const there = own.current.has(`route ${wanted.route}`) ? undefined : routes.find((each) => each.name === wanted.route);
  const taken = apps.includes(wanted.app) && !own.current.has(`app ${wanted.app}`);
  const make = useMutation({
    mutationFn: async (): Promise<Made> => {
      if (!there) await once(`route ${wanted.route}`, () => makeRoute({ name: wanted.route, targets: [{ provider, model: wanted.model }] }));
      if (!teams.includes(wanted.team)) await once(`team ${wanted.team}`, () => makeTeam(wanted.team));
      await once(`app ${wanted.app}`, () => makeApp({ name: wanted.app, team: wanted.team, routes: [wanted.route] }));
      if (Number(budget) > 0) await once(`budget ${wanted.app}`, () => makeBudget(wanted.app, Number(budget)));
      const key = await makeKey({ app: wanted.app, name: "first" });
      return { route: wanted.route, app: wanted.app, key: key.key ?? undefined };
    },
    onSuccess: done,
    onSettled: () => Promise.all(["routes", "teams", "apps", "keys", "limits"].map((kind) => queries.invalidateQueries({ queryKey: [kind] }))),
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    if (complete) make.mutate();
  }

  const unfit = there !== undefined && there.match !== null;
  const complete = wanted.route !== "" && wanted.team !== "" && wanted.app !== "" && (wanted.model !== "" || there !== undefined) && !taken && !unfit;
  return (
    <form onSubmit={submit} className={styles.form}>
      <div className={styles.pair}>
        {there && !unfit ? (
          <TextInput label={t`Model of ${provider}`} description={t`The route has its own`} value={targetNames(there)} readOnly disabled />
        ) : (
          <Autocomplete
            label={t`Model of ${provider}`}
            description={models ? t`As ${provider} lists them` : t`As ${provider} names it`}
            required
            data={[...(models ?? [])]}
            limit={50}
            value={model}
            onChange={setModel}
            placeholder={models?.[0] ?? "gpt-5-mini"}
            {...(only ? {} : { "data-first": true })}
          />
        )}
        <TextInput
          label={t`Route`}
          description={there && !unfit ? t`It exists, and is used as it is` : t`What callers write as “model”`}
          error={unfit ? t`${wanted.route} is a route for plain HTTP: choose another name` : null}
          required
          value={route}
          onChange={(event) => setRoute(event.currentTarget.value)}
        />
      </div>
      <div className={styles.pair}>
        <TextInput
          label={t`App`}
          description={t`Who calls: cost and limits stand under its name`}
          error={taken ? t`${wanted.app} exists: choose another name` : null}
          required
          value={app}
          onChange={(event) => setApp(event.currentTarget.value)}
        />
        <Autocomplete label={t`Team`} description={t`Whose app it is`} required data={[...teams]} value={team} onChange={setTeam} />
      </div>
      <NumberInput label={t`Budget a month, in USD`} description={t`Requests beyond it are refused. Empty: no limit`} value={budget} onChange={setBudget} min={0} decimalScale={2} prefix="$" maw={360} />
      {make.error ? <Problem error={make.error} /> : null}
      <div className={styles.deeds}>
        <Button type="submit" loading={make.isPending} disabled={!complete} {...(only || there ? { "data-first": true } : {})}>
          {there ? t`Make app ${wanted.app} and its key` : t`Make route ${wanted.route}, app ${wanted.app} and its key`}
        </Button>
      </div>
    </form>
  );
}

/** The name, or with the first number that nobody has. */
function free(name: string, taken: readonly string[]): string {
  for (let number = 1; ; number += 1) {
    const tried = number === 1 ? name : `${name}-${number}`;
    if (!taken.includes(tried)) return tried;
  }
}

/** Step two: what callers ask for, who may ask for it, and what it may cost. */
import { t } from "@lingui/core/macro";
import { Autocomplete, Button, NumberInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import { makeApp, makeKey, makeTeam } from "@/features/apps/queries";
import { makeRoute } from "@/features/routes/queries";
import { Problem } from "@/ui/Answer";
import { Line } from "@/ui/FormDialog";
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
  routes: readonly string[];
  apps: readonly string[];
  done: (made: Made) => void;
}

export function RouteStep({ provider, models, teams, routes, apps, done }: RouteStepProps) {
  const [model, setModel] = useState("");
  const [route, setRoute] = useState(free("chat", routes));
  const [team, setTeam] = useState(teams[0] ?? "platform");
  const [app, setApp] = useState(free("first-app", apps));
  const [budget, setBudget] = useState<number | string>(10);
  const queries = useQueryClient();
  const make = useMutation({
    mutationFn: async (): Promise<Made> => {
      // Each of them stays where a later one is refused, and is not made again by the next try.
      if (!routes.includes(route.trim())) await makeRoute({ name: route.trim(), targets: [{ provider, model: model.trim() }] });
      if (!teams.includes(team.trim())) await makeTeam(team.trim());
      if (!apps.includes(app.trim())) await makeApp({ name: app.trim(), team: team.trim(), routes: [route.trim()] });
      if (Number(budget) > 0) await makeBudget(app.trim(), Number(budget));
      const key = await makeKey({ app: app.trim(), name: "first" });
      return { route: route.trim(), app: app.trim(), key: key.key ?? undefined };
    },
    onSuccess: done,
    onSettled: () => Promise.all(["routes", "teams", "apps", "keys", "limits"].map((kind) => queries.invalidateQueries({ queryKey: [kind] }))),
  });

  function submit(event: FormEvent): void {
    event.preventDefault();
    make.mutate();
  }

  const complete = [model, route, team, app].every((each) => each.trim() !== "");
  return (
    <form onSubmit={submit} className={styles.form}>
      <Line>
        <Autocomplete label={t`Model of ${provider}`} required data={[...(models ?? [])]} limit={50} value={model} onChange={setModel} placeholder={models?.[0] ?? "gpt-5-mini"} />
        <TextInput label={t`Route`} description={t`What callers write as “model”`} required value={route} onChange={(event) => setRoute(event.currentTarget.value)} />
      </Line>
      <Line>
        <TextInput label={t`App`} description={t`Who calls: its requests, cost and limits stand under this name`} required value={app} onChange={(event) => setApp(event.currentTarget.value)} />
        <Autocomplete label={t`Team`} description={t`Whose app it is`} required data={[...teams]} value={team} onChange={setTeam} />
      </Line>
      <NumberInput label={t`Budget a month, in USD`} description={t`Requests beyond it are refused. Empty: no limit`} value={budget} onChange={setBudget} min={0} decimalScale={2} prefix="$" w={260} />
      {make.error ? <Problem error={make.error} /> : null}
      <div className={styles.deeds}>
        <Button type="submit" loading={make.isPending} disabled={!complete}>
          {t`Make route ${route.trim()}, app ${app.trim()} and its key`}
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

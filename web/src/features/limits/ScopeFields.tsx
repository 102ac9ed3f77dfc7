/** Whom a limit counts: everyone, or those that fit all that is named here. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, Select } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { appsQuery, keysQuery, teamsQuery } from "@/features/apps/queries";
import { providersQuery } from "@/features/providers/queries";
import { routesQuery } from "@/features/routes/queries";
import { targetName } from "@/features/routes/target";
import { useWrong } from "@/ui/wrong";
import styles from "./limits.module.css";
import type { Narrowing, ScopeKind } from "./written";

const KINDS: Readonly<Record<ScopeKind, { label: string; which: string }>> = {
  team: { label: t`A team`, which: t`Which team` },
  app: { label: t`An app`, which: t`Which app` },
  key: { label: t`A key`, which: t`Which key` },
  route: { label: t`A route`, which: t`Which route` },
  provider: { label: t`A provider`, which: t`Which provider` },
  credential: { label: t`A credential`, which: t`Which credential` },
  target: { label: t`A target`, which: t`Which target` },
  model: { label: t`A model`, which: t`Which model` },
};
const ALL = Object.keys(KINDS) as ScopeKind[];

interface ScopeFieldsProps {
  scope: readonly Narrowing[];
  set: (scope: readonly Narrowing[]) => void;
}

export function ScopeFields({ scope, set }: ScopeFieldsProps) {
  const free = ALL.filter((kind) => scope.every((each) => each.kind !== kind));
  return (
    <fieldset className={styles.scope}>
      <legend>
        <Trans>For</Trans>
      </legend>
      {scope.length === 0 ? (
        <p className={styles.everyone}>
          <Trans>Everyone: all requests of this gateway count.</Trans>
        </p>
      ) : null}
      {scope.map((each, at) => (
        <OneNarrowing
          key={each.kind}
          narrowing={each}
          at={at}
          kinds={[each.kind, ...free]}
          set={(narrowing) => set(scope.map((other, index) => (index === at ? narrowing : other)))}
          remove={() => set(scope.filter((_, index) => index !== at))}
        />
      ))}
      <div>
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} disabled={free.length === 0} onClick={() => set([...scope, { kind: free[0]!, name: null }])}>
          {scope.length === 0 ? <Trans>Only some requests</Trans> : <Trans>And only of</Trans>}
        </Button>
      </div>
    </fieldset>
  );
}

interface OneNarrowingProps {
  narrowing: Narrowing;
  at: number;
  kinds: readonly ScopeKind[];
  set: (narrowing: Narrowing) => void;
  remove: () => void;
}

function OneNarrowing({ narrowing: { kind, name }, at, kinds, set, remove }: OneNarrowingProps) {
  const names = useNames(kind);
  const wrong = useWrong();
  // What it names may be gone, or not to be seen here: it stays to be seen that it does.
  const data = name !== null && !names.includes(name) ? [name, ...names] : names;
  return (
    <div className={styles.narrowing}>
      <Select aria-label={at === 0 ? t`For` : t`And only of`} data={ALL.filter((each) => kinds.includes(each)).map((value) => ({ value, label: KINDS[value].label }))} value={kind} allowDeselect={false} onChange={(chosen) => set({ kind: chosen as ScopeKind, name: null })} />
      <Select aria-label={KINDS[kind].which} placeholder={KINDS[kind].which} data={data} value={name} onChange={(chosen) => set({ kind, name: chosen })} searchable required error={wrong(`scope.${kind}`)} />
      <ActionIcon variant="subtle" color="gray" size="lg" onClick={remove} aria-label={t`Take “${KINDS[kind].label}” away`}>
        <IconTrash size={16} />
      </ActionIcon>
    </div>
  );
}

/** What a limit of this kind can be for: keys as `app/name`, credentials as `provider/name`, targets as `provider/model`. */
function useNames(kind: ScopeKind): string[] {
  const teams = useQuery({ ...teamsQuery, enabled: kind === "team" });
  const apps = useQuery({ ...appsQuery, enabled: kind === "app" });
  const keys = useQuery({ ...keysQuery, enabled: kind === "key" });
  const routes = useQuery({ ...routesQuery, enabled: kind === "route" || kind === "target" || kind === "model" });
  const providers = useQuery({ ...providersQuery, enabled: kind === "provider" || kind === "credential" });
  const targets = routes.data?.flatMap((route) => route.targets) ?? [];
  switch (kind) {
    case "team":
      return teams.data?.map((each) => each.name) ?? [];
    case "app":
      return apps.data?.map((each) => each.name) ?? [];
    case "key":
      return keys.data?.map((each) => `${each.app}/${each.name}`) ?? [];
    case "route":
      return routes.data?.map((each) => each.name) ?? [];
    case "provider":
      return providers.data?.map((each) => each.name) ?? [];
    case "credential":
      return providers.data?.flatMap((each) => each.credentials.map((credential) => `${each.name}/${credential.name}`)) ?? [];
    case "target":
      return [...new Set(targets.map(targetName))];
    case "model":
      return [...new Set(targets.flatMap((target) => target.model ?? []))];
  }
}

/** Which group comes in as what: rules in order, whoever is in none of them, and who may use a password. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, Group, Select, Skeleton, TextInput } from "@mantine/core";
import { IconArrowDown, IconArrowUp, IconPlus, IconX } from "@tabler/icons-react";
import { useMutation, useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import type { Role, SignOnPolicy } from "@/api/model";
import { isTeamRole, ROLES } from "@/api/roles";
import { teamsQuery } from "@/features/apps/queries";
import { Problem } from "@/ui/Answer";
import { Section } from "@/ui/Page";
import { policyQuery, setPolicy, type Wanted } from "./queries";
import styles from "./sign-on.module.css";

const REFUSED = "refused";

export function Rules({ mayChange }: { mayChange: boolean }) {
  const policy = useQuery(policyQuery);
  return (
    <Section title={t`Who comes in as what`} aside={t`for all providers and SCIM; the first rule that fits decides, anew at each sign-in`}>
      {policy.data ? <Form key={policy.data.version} policy={policy.data} mayChange={mayChange} /> : policy.error ? <Problem error={policy.error} again={() => void policy.refetch()} /> : <Skeleton height={160} />}
    </Section>
  );
}

function Form({ policy, mayChange }: { policy: SignOnPolicy; mayChange: boolean }) {
  const [wanted, setWanted] = useState<Wanted>({ rules: policy.rules, default: policy.default, passwords: policy.passwords });
  const teams = useQuery(teamsQuery).data?.map((team) => team.name) ?? [];
  const queries = useQueryClient();
  const saving = useMutation({
    mutationFn: () => setPolicy(wanted, policy.version),
    onSuccess: (saved) => queries.setQueryData(policyQuery.queryKey, saved),
  });
  const changed = JSON.stringify(wanted) !== JSON.stringify({ rules: policy.rules, default: policy.default, passwords: policy.passwords });
  const complete = wanted.rules.every((rule) => rule.group.trim() !== "" && (!isTeamRole(rule.role) || rule.team)) && (!wanted.default || !isTeamRole(wanted.default.role) || wanted.default.team);
  const setRules = (rules: Wanted["rules"]) => setWanted({ ...wanted, rules });
  const change = (at: number, next: Partial<Wanted["rules"][number]>) => setRules(wanted.rules.map((rule, place) => (place === at ? settled({ ...rule, ...next }) : rule)));
  return (
    <div className={styles.rules}>
      {saving.error ? <Problem error={saving.error} /> : null}
      {wanted.rules.length === 0 ? (
        <p className={styles.none}>
          <Trans>No rule yet: without one, and with everybody else refused, nobody comes in by a provider.</Trans>
        </p>
      ) : null}
      <ol className={styles.list}>
        {wanted.rules.map((rule, at) => (
          <li key={at} className={styles.rule}>
            <TextInput aria-label={t`Group of rule ${at + 1}`} placeholder={t`Group, as the provider names it`} value={rule.group} disabled={!mayChange} onChange={(event) => change(at, { group: event.currentTarget.value })} />
            <RoleAndTeam what={t`rule ${at + 1}`} role={rule.role} team={rule.team ?? null} teams={teams} disabled={!mayChange} choose={(role, team) => role && change(at, { role, team })} />
            {mayChange ? (
              <Group gap={2} wrap="nowrap">
                <ActionIcon variant="subtle" color="gray" disabled={at === 0} onClick={() => setRules(swapped(wanted.rules, at - 1))} aria-label={t`Move rule ${at + 1} up`}>
                  <IconArrowUp size={16} />
                </ActionIcon>
                <ActionIcon variant="subtle" color="gray" disabled={at === wanted.rules.length - 1} onClick={() => setRules(swapped(wanted.rules, at))} aria-label={t`Move rule ${at + 1} down`}>
                  <IconArrowDown size={16} />
                </ActionIcon>
                <ActionIcon variant="subtle" color="gray" onClick={() => setRules(wanted.rules.filter((_, place) => place !== at))} aria-label={t`Remove rule ${at + 1}`}>
                  <IconX size={16} />
                </ActionIcon>
              </Group>
            ) : null}
          </li>
        ))}
      </ol>
      {mayChange ? (
        <div>
          <Button size="xs" variant="default" leftSection={<IconPlus size={14} />} onClick={() => setRules([...wanted.rules, { group: "", role: "viewer", team: null }])}>
            <Trans>Add a rule</Trans>
          </Button>
        </div>
      ) : null}
      <div className={styles.rule}>
        <span className={styles.else}>{t`Everybody else`}</span>
        <RoleAndTeam
          what={t`everybody else`}
          role={wanted.default?.role ?? null}
          team={wanted.default?.team ?? null}
          teams={teams}
          disabled={!mayChange}
          refusable
          choose={(role, team) => setWanted({ ...wanted, default: role === null ? null : settled({ role, team }) })}
        />
      </div>
      <div className={styles.rule}>
        <span className={styles.else}>{t`Passwords and passkeys`}</span>
        <Select
          aria-label={t`Who may sign in by password`}
          disabled={!mayChange}
          allowDeselect={false}
          data={[
            { value: "everyone", label: t`Everyone who has one` },
            { value: "owners", label: t`Owners only, while a provider is on` },
          ]}
          value={wanted.passwords}
          onChange={(chosen) => setWanted({ ...wanted, passwords: chosen as Wanted["passwords"] })}
        />
      </div>
      {mayChange ? (
        <Group gap="xs">
          <Button disabled={!changed || !complete} loading={saving.isPending} onClick={() => saving.mutate()}>
            <Trans>Save the rules</Trans>
          </Button>
          {changed ? (
            <Button variant="default" onClick={() => setWanted({ rules: policy.rules, default: policy.default, passwords: policy.passwords })}>
              <Trans>Undo</Trans>
            </Button>
          ) : null}
        </Group>
      ) : null}
    </div>
  );
}

interface RoleAndTeamProps {
  what: string;
  role: Role | null;
  team: string | null;
  teams: readonly string[];
  disabled: boolean;
  refusable?: boolean;
  choose: (role: Role | null, team: string | null) => void;
}

function RoleAndTeam({ what, role, team, teams, disabled, refusable = false, choose }: RoleAndTeamProps) {
  return (
    <>
      <Select
        aria-label={t`Role of ${what}`}
        data={[...(refusable ? [{ value: REFUSED, label: t`Refused, with the reason` }] : []), ...ROLES]}
        value={role ?? REFUSED}
        disabled={disabled}
        allowDeselect={false}
        onChange={(chosen) => choose(chosen === REFUSED ? null : (chosen as Role), team)}
      />
      {role !== null && isTeamRole(role) ? <Select aria-label={t`Team of ${what}`} placeholder={t`Team`} data={[...teams]} value={team} disabled={disabled} searchable onChange={(chosen) => choose(role, chosen)} /> : null}
    </>
  );
}

/** A role that is of no team names none. */
const settled = <Rule extends { role: Role; team?: string | null }>(rule: Rule): Rule & { team: string | null } => ({ ...rule, team: isTeamRole(rule.role) ? (rule.team ?? null) : null });

function swapped<Item>(items: readonly Item[], at: number): Item[] {
  const [first, second] = [items[at], items[at + 1]];
  if (first === undefined || second === undefined) return [...items];
  return [...items.slice(0, at), second, first, ...items.slice(at + 2)];
}

/** The header rules of one direction: removed, set in place of what is there, added beside it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, Select, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { useWrong } from "@/ui/wrong";
import { DEEDS, isRepeated, nameOf, type HeaderRule } from "./headerRules";
import styles from "./routes.module.css";

interface HeaderRuleFieldsProps {
  /** As the API names it. */
  field: "request_headers" | "response_headers";
  title: ReactNode;
  /** What is said of one rule by whoever cannot see the title: "Request header 1". */
  named: (number: number) => string;
  rules: readonly HeaderRule[];
  set: (rules: readonly HeaderRule[]) => void;
}

export function HeaderRuleFields({ field, title, named, rules, set }: HeaderRuleFieldsProps) {
  const wrong = useWrong();
  const change = (at: number, part: Partial<HeaderRule>): void => set(rules.map((rule, index) => (index === at ? { ...rule, ...part } : rule)));
  const wrongWith = (rule: HeaderRule, at: number): string | undefined => {
    if (isRepeated(rules, at)) return t`There is such a rule above`;
    // Removals are told by their place among themselves, the others by name.
    return rule.deed === "remove" ? wrong(`${field}.remove.${rules.slice(0, at).filter((each) => each.deed === "remove").length}`) : wrong(`${field}.${rule.deed}.${nameOf(rule)}`);
  };
  return (
    <fieldset className={styles.headers}>
      <legend>{title}</legend>
      {rules.map((rule, at) => (
        <div key={at} className={styles.header} data-removes={rule.deed === "remove"}>
          <Select aria-label={t`${named(at + 1)}: deed`} data={[...DEEDS]} value={rule.deed} allowDeselect={false} onChange={(deed) => change(at, { deed: deed as HeaderRule["deed"] })} />
          <TextInput
            aria-label={t`${named(at + 1)}: name`}
            placeholder="x-environment"
            required
            value={rule.name}
            onChange={(event) => change(at, { name: event.currentTarget.value })}
            error={wrongWith(rule, at)}
            autoComplete="off"
            spellCheck={false}
          />
          {rule.deed === "remove" ? null : <TextInput className={styles.headerValue ?? ""} aria-label={t`${named(at + 1)}: value`} placeholder={t`Value`} value={rule.value} onChange={(event) => change(at, { value: event.currentTarget.value })} autoComplete="off" spellCheck={false} />}
          <ActionIcon variant="subtle" color="gray" size="lg" onClick={() => set(rules.filter((_, index) => index !== at))} aria-label={t`Take ${named(at + 1)} away`}>
            <IconTrash size={16} />
          </ActionIcon>
        </div>
      ))}
      <div>
        <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => set([...rules, { deed: "set", name: "", value: "" }])}>
          {field === "request_headers" ? <Trans>Change a request header</Trans> : <Trans>Change an answer header</Trans>}
        </Button>
      </div>
    </fieldset>
  );
}

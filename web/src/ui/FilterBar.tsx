/** Filters as chips: each can be taken away, any can be added; all of them stand in the URL. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, Popover, Select, TextInput } from "@mantine/core";
import { IconFilterPlus, IconX } from "@tabler/icons-react";
import { useNavigate } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import styles from "./FilterBar.module.css";

export interface Choice {
  value: string;
  label: string;
}

interface FilterBarProps<Name extends string> {
  /** What can be filtered by, in order; the first is offered first. */
  labels: Readonly<Record<Name, string>>;
  filters: { readonly [Each in Name]?: string | undefined };
  /** A hook: the values that a filter can take, where the console knows them all. */
  useChoices: (name: Name) => readonly Choice[] | undefined;
  /** A value as people read it. */
  word?: (name: Name, value: string) => string;
  placeholder: (name: Name) => string;
  /** What the button of a new filter says. */
  deed: string;
}

export function FilterBar<Name extends string>(props: FilterBarProps<Name>) {
  const { labels, filters, word } = props;
  const navigate = useNavigate();
  const set = (name: Name, value: string | undefined): void => {
    void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, [name]: value }) });
  };
  return (
    <div className={styles.filters} role="group" aria-label={t`Filters`}>
      {namesOf(labels).map((name) => {
        const value = filters[name];
        if (value === undefined) return null;
        return (
          <span key={name} className={styles.chip}>
            {labels[name]}
            <b>{word ? word(name, value) : value}</b>
            <ActionIcon variant="transparent" size="sm" onClick={() => set(name, undefined)} aria-label={t`Take away the filter ${labels[name]}`}>
              <IconX size={14} />
            </ActionIcon>
          </span>
        );
      })}
      <AddFilter {...props} set={set} />
    </div>
  );
}

function namesOf<Name extends string>(labels: Readonly<Record<Name, string>>): readonly Name[] {
  return Object.keys(labels) as Name[];
}

function AddFilter<Name extends string>({ labels, useChoices, placeholder, deed, set }: FilterBarProps<Name> & { set: (name: Name, value: string) => void }) {
  const names = namesOf(labels);
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState<Name>(names[0] as Name);
  const [value, setValue] = useState("");
  const choices = useChoices(name);

  function add(event: FormEvent): void {
    event.preventDefault();
    if (value.trim() === "") return;
    set(name, value.trim());
    setValue("");
    setOpened(false);
  }

  return (
    <Popover opened={opened} onChange={setOpened} position="bottom-start" shadow="md" trapFocus transitionProps={{ duration: 120 }}>
      <Popover.Target>
        <Button variant="default" size="compact-sm" leftSection={<IconFilterPlus size={15} />} onClick={() => setOpened(!opened)}>
          <Trans>Add filter</Trans>
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <form onSubmit={add} style={{ display: "grid", gap: 10, width: 240 }}>
          <Select
            label={t`What`}
            data={names.map((each) => ({ value: each, label: labels[each] }))}
            value={name}
            allowDeselect={false}
            comboboxProps={{ withinPortal: false }}
            onChange={(chosen) => {
              setName(chosen as Name);
              setValue("");
            }}
          />
          {choices ? (
            <Select label={t`Is`} data={choices} value={value || null} onChange={(chosen) => setValue(chosen ?? "")} searchable comboboxProps={{ withinPortal: false }} />
          ) : (
            <TextInput label={t`Is`} value={value} onChange={(event) => setValue(event.currentTarget.value)} placeholder={placeholder(name)} />
          )}
          <Button type="submit" disabled={value.trim() === ""}>
            {deed}
          </Button>
        </form>
      </Popover.Dropdown>
    </Popover>
  );
}

/** Filters as chips: each can be taken away, any can be added; all of them stand in the URL. */
import { ActionIcon, Button, Popover, Select, TextInput } from "@mantine/core";
import { IconFilterPlus, IconX } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState, type FormEvent } from "react";
import { appsQuery, teamsQuery } from "@/features/apps/queries";
import { routesQuery } from "@/features/routes/queries";
import { FILTER_LABELS, FILTERS, OUTCOMES, type FilterName, type Filters } from "./filters";
import { outcomeWord } from "./outcome";
import styles from "./requests.module.css";

export function FilterBar({ filters }: { filters: Filters }) {
  const navigate = useNavigate();
  const set = (name: FilterName, value: string | undefined): void => {
    void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, [name]: value }) });
  };
  return (
    <div className={styles.filters} role="group" aria-label="Filters">
      {FILTERS.map((name) => {
        const value = filters[name];
        if (value === undefined) return null;
        return (
          <span key={name} className={styles.chip}>
            {FILTER_LABELS[name]}
            <b>{name === "outcome" ? outcomeWord(value) : value}</b>
            <ActionIcon variant="transparent" size="sm" onClick={() => set(name, undefined)} aria-label={`Take away the filter ${FILTER_LABELS[name]}`}>
              <IconX size={14} />
            </ActionIcon>
          </span>
        );
      })}
      <AddFilter set={set} />
    </div>
  );
}

function AddFilter({ set }: { set: (name: FilterName, value: string) => void }) {
  const [opened, setOpened] = useState(false);
  const [name, setName] = useState<FilterName>("app");
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
          Add filter
        </Button>
      </Popover.Target>
      <Popover.Dropdown>
        <form onSubmit={add} style={{ display: "grid", gap: 10, width: 240 }}>
          <Select
            label="What"
            data={FILTERS.map((each) => ({ value: each, label: FILTER_LABELS[each] }))}
            value={name}
            allowDeselect={false}
            comboboxProps={{ withinPortal: false }}
            onChange={(chosen) => {
              setName(chosen as FilterName);
              setValue("");
            }}
          />
          {choices ? (
            <Select label="Is" data={choices} value={value || null} onChange={(chosen) => setValue(chosen ?? "")} searchable comboboxProps={{ withinPortal: false }} />
          ) : (
            <TextInput label="Is" value={value} onChange={(event) => setValue(event.currentTarget.value)} placeholder={name === "status" ? "429" : "openai/gpt-5-mini"} />
          )}
          <Button type="submit" disabled={value.trim() === ""}>
            Show these requests
          </Button>
        </form>
      </Popover.Dropdown>
    </Popover>
  );
}

/** The values that a filter can take, where the console knows them all. */
function useChoices(name: FilterName): { value: string; label: string }[] | undefined {
  const apps = useQuery({ ...appsQuery, enabled: name === "app" });
  const routes = useQuery({ ...routesQuery, enabled: name === "route" });
  const teams = useQuery({ ...teamsQuery, enabled: name === "team" });
  const named = (items: readonly { name: string }[] | undefined) => items?.map((each) => ({ value: each.name, label: each.name }));
  switch (name) {
    case "app":
      return named(apps.data) ?? [];
    case "route":
      return named(routes.data) ?? [];
    case "team":
      return named(teams.data) ?? [];
    case "outcome":
      return OUTCOMES.map((each) => ({ value: each, label: outcomeWord(each) }));
    default:
      return undefined;
  }
}

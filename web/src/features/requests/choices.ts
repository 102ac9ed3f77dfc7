import { useQuery } from "@tanstack/react-query";
import { appsQuery, teamsQuery } from "@/features/apps/queries";
import { routesQuery } from "@/features/routes/queries";
import type { Choice } from "@/ui/FilterBar";
import { OUTCOMES, type FilterName } from "./filters";
import { outcomeWord } from "./outcome";

/** The values that a filter can take, where the console knows them all. */
export function useChoices(name: FilterName): readonly Choice[] | undefined {
  const apps = useQuery({ ...appsQuery, enabled: name === "app" });
  const routes = useQuery({ ...routesQuery, enabled: name === "route" });
  const teams = useQuery({ ...teamsQuery, enabled: name === "team" });
  const named = (items: readonly { name: string }[] | undefined): Choice[] | undefined => items?.map((each) => ({ value: each.name, label: each.name }));
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

import { t } from "@lingui/core/macro";
import type { Route, Strategy, Target } from "@/api/model";

/** As the ledger names it: `provider/model`, of an HTTP provider its name alone. */
export const targetName = (target: Target): string => (target.model ? `${target.provider}/${target.model}` : target.provider);

/** How each strategy chooses among targets that are ready, as forms and drawers say it. */
export const STRATEGIES: Readonly<Record<Strategy, string>> = {
  ordered: t`in order: the next when one fails`,
  weighted: t`by weight`,
  "round-robin": t`each in turn`,
  "least-busy": t`the one with the fewest requests in flight`,
  fastest: t`the one with the shortest time to the first byte`,
  cheapest: t`the one where the request costs least`,
};

/** "a → b" where the order as written decides, "a, b" where something else does. */
export const targetNames = (route: Route): string => route.targets.map(targetName).join(route.strategy === "ordered" ? " → " : ", ");

/** Which limits a route's requests meet: those that name it or its targets, and how many depend on who calls. */
import { plural, t } from "@lingui/core/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { Limit, Route } from "@/api/model";
import { promise, whom } from "@/features/limits/amount";
import { limitsQuery } from "@/features/limits/queries";
import { Facts, Part } from "@/ui/Drawer";
import styles from "./routes.module.css";
import { targetName } from "./target";

export function RouteLimits({ route }: { route: Route }) {
  const limits = useQuery(limitsQuery).data;
  if (!limits) return null;
  const applying = limits.filter((limit) => mayApply(limit, route));
  const sure = applying.filter((limit) => !byCaller(limit));
  const others = applying.length - sure.length;
  return (
    <Part title={t`Limits that apply`}>
      {sure.length === 0 ? <p className={styles.how}>{t`None that every request meets.`}</p> : <Facts facts={sure.map((limit) => [`${limit.name} (${whom(limit.scope)})`, promise(limit)] as const)} />}
      {others > 0 ? (
        <p className={styles.how}>
          {plural(others, { one: "# more, depending on who calls.", other: "# more, depending on who calls." })} <Link to="/limits" className={styles.noted ?? ""}>{t`All limits`}</Link>
        </p>
      ) : null}
    </Part>
  );
}

/** It names a team, an app or a key: others do not meet it. */
const byCaller = ({ scope }: Limit): boolean => Boolean(scope.team ?? scope.app ?? scope.key);

function mayApply({ scope }: Limit, route: Route): boolean {
  const providers = route.targets.map((target) => target.provider);
  return (
    (!scope.route || scope.route === route.name) &&
    (!scope.provider || providers.includes(scope.provider)) &&
    (!scope.credential || providers.includes(scope.credential.split("/")[0] ?? "")) &&
    (!scope.target || route.targets.some((target) => targetName(target) === scope.target)) &&
    (!scope.model || route.targets.some((target) => target.model === scope.model))
  );
}

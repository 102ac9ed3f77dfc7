/** Above every page: that some of it could not be loaded, where the page does not say so itself, and the way to try again. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useUnsaid } from "@/api/failures";
import { ApiProblem } from "@/api/problem";
import { Bar } from "@/ui/Bar";
import { Told } from "@/ui/Told";

export function Unloaded() {
  const queries = useQueryClient();
  const failed = useUnsaid(queries);
  const [first] = failed;
  if (!first) return null;
  const { message, fix } = ApiProblem.of(first.state.error);
  const stale = failed.every((query) => query.state.data !== undefined);
  return (
    <Bar
      tone="bad"
      icon={<IconAlertTriangle size={15} aria-hidden />}
      deed={
        <Button size="compact-xs" variant="default" loading={failed.some((query) => query.state.fetchStatus === "fetching")} onClick={() => void queries.refetchQueries({ predicate: (query) => failed.includes(query) })}>
          <Trans>Try again</Trans>
        </Button>
      }
    >
      <b>{stale ? t`Not up to date:` : t`Some of this page could not be loaded:`}</b> <Told>{[message, fix].filter(Boolean).join(". ")}</Told>
    </Bar>
  );
}

/** Where the draft and what is in force have both changed the same: both sides, and a button for each. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Problem } from "@/ui/Answer";
import { resolve, type Conflict } from "./queries";
import { Sides } from "@/ui/Sides";
import { Told } from "@/ui/Told";
import styles from "./publish.module.css";

export function Conflicts({ conflicts }: { conflicts: readonly Conflict[] }) {
  return (
    <ul className={styles.differences}>
      {conflicts.map((each) => (
        <OneConflict key={`${each.kind} ${each.name} ${each.field ?? ""}`} conflict={each} />
      ))}
    </ul>
  );
}

function OneConflict({ conflict }: { conflict: Conflict }) {
  const { kind, name, field } = conflict;
  const queries = useQueryClient();
  const settling = useMutation({
    mutationFn: (take: "draft" | "in_force") => resolve(conflict, take),
    onSuccess: () => queries.invalidateQueries({ queryKey: ["draft"] }),
  });
  return (
    <li className={styles.difference}>
      <div className={styles.differenceHead}>
        <span className={styles.named}>
          <Told>{kind}</Told> <code>{name}</code>
          {field ? (
            <>
              {": "}
              <code>{field}</code>
            </>
          ) : null}
        </span>
      </div>
      <Sides
        sides={[
          { title: t`Before either`, value: conflict.base },
          {
            title: t`In the draft`,
            value: conflict.draft,
            action: (
              <Button size="xs" variant="default" loading={settling.isPending} onClick={() => settling.mutate("draft")}>
                <Trans>Keep the draft's</Trans>
              </Button>
            ),
          },
          {
            title: t`In force now`,
            value: conflict.in_force,
            action: (
              <Button size="xs" variant="default" loading={settling.isPending} onClick={() => settling.mutate("in_force")}>
                <Trans>Take what is in force</Trans>
              </Button>
            ),
          },
        ]}
      />
      {settling.error ? <Problem error={settling.error} /> : null}
    </li>
  );
}

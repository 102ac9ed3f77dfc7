/** The button that has every hash computed again, and what came of it. */
import { plural, t } from "@lingui/core/macro";
import { Button } from "@mantine/core";
import { IconShieldCheck } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { ApiProblem } from "@/api/problem";
import { CopyIcon } from "@/ui/Copy";
import { Mark } from "@/ui/Mark";
import { exact } from "@/units/count";
import styles from "./audit.module.css";
import { verifyAudit } from "./queries";

export function Verification() {
  const checking = useMutation({ mutationFn: verifyAudit });
  const found = checking.data;
  return (
    <div className={styles.verification}>
      <span role="status" className={styles.verdict}>
        {checking.error ? <Mark tone="warn">{ApiProblem.of(checking.error).message}</Mark> : null}
        {found?.intact ? (
          <>
            <Mark tone="ok">{plural(found.entries, { one: "Intact: # entry, each as it was written", other: "Intact: # entries, each as it was written" })}</Mark>
            {found.head ? (
              <span className={styles.head} title={t`The last entry's number and hash. Kept elsewhere, it proves later that nothing before it was rewritten: sluicegate audit verify --noted ${found.head}`}>
                <code>{`${found.head.slice(0, found.head.indexOf(":") + 9)}…`}</code>
                <CopyIcon text={found.head} what={t`the last entry's mark`} />
              </span>
            ) : null}
          </>
        ) : null}
        {found && !found.intact ? (
          <Mark tone="bad">
            {t`Tampered with: ${found.problem ?? ""}.`}{" "}
            <Link to="/audit/$seq" params={{ seq: String(found.broken_at) }} search={(old) => old}>
              {t`Entry ${exact(found.broken_at ?? 0)}`}
            </Link>
          </Mark>
        ) : null}
      </span>
      <Button size="xs" variant="default" loading={checking.isPending} onClick={() => checking.mutate()} leftSection={<IconShieldCheck size={15} />}>
        {t`Verify the log`}
      </Button>
    </div>
  );
}

/** What stands where data would be: an error that can be acted on, or a page that is empty for a reason. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import type { ReactNode } from "react";
import { useSaid } from "@/api/failures";
import { ApiProblem } from "@/api/problem";
import { Id, Snippet } from "./Copy";
import styles from "./Answer.module.css";

export function Problem({ error, again }: { error: unknown; again?: () => void }) {
  useSaid(error);
  const problem = ApiProblem.of(error);
  return (
    <div className={styles.problem} role="alert">
      <IconAlertTriangle size={18} aria-hidden />
      <div>
        <p className={styles.what}>{problem.message}</p>
        {problem.fix ? <p>{problem.fix}</p> : null}
        {problem.fields.length > 1 ? (
          <ul>
            {problem.fields.map((each) => (
              <li key={each.field + each.problem}>
                <code>{each.field}</code> {each.problem}
              </li>
            ))}
          </ul>
        ) : null}
        {problem.requestId ? (
          <p className={styles.id}>
            <Trans>
              Request <Id text={problem.requestId} what={t`request id`} />
            </Trans>
          </p>
        ) : null}
      </div>
      {again ? (
        <Button size="xs" variant="default" onClick={again}>
          <Trans>Try again</Trans>
        </Button>
      ) : null}
    </div>
  );
}

interface EmptyProps {
  /** What would be here. */
  title: string;
  /** Why it is not. */
  why: string;
  action?: ReactNode;
  snippet?: string | undefined;
}

export function Empty({ title, why, action, snippet }: EmptyProps) {
  return (
    <div className={styles.empty}>
      <svg viewBox="0 0 64 28" width="64" height="28" aria-hidden>
        {[4, 14, 24].map((y, i) => (
          <path key={y} d={`M2 ${y}c10-6 18-6 30 0s20 6 30 0`} fill="none" stroke="currentColor" strokeWidth="2" opacity={1 - i * 0.3} />
        ))}
      </svg>
      <h2>{title}</h2>
      <p>{why}</p>
      {action}
      {snippet ? <Snippet text={snippet} /> : null}
    </div>
  );
}

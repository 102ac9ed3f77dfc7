/** What became of a request, in words and colour. */
import { t } from "@lingui/core/macro";
import type { LedgerRow, Outcome } from "@/api/model";
import { Mark, type Tone } from "@/ui/Mark";

const OUTCOMES: Record<Outcome, { word: string; tone: Tone; meaning: string }> = {
  completed: { word: t`Completed`, tone: "ok", meaning: t`The answer went to the client as a whole` },
  client_gone: { word: t`Client left`, tone: "warn", meaning: t`The client closed the connection before the answer's end; what was delivered is charged` },
  upstream_failed: { word: t`Upstream failed`, tone: "bad", meaning: t`No target gave an answer` },
  refused: { word: t`Refused`, tone: "warn", meaning: t`Refused by the gateway before anything went upstream` },
  interrupted: { word: t`Interrupted`, tone: "bad", meaning: t`A gateway process died with this request in flight` },
  open: { word: t`In flight`, tone: "info", meaning: t`Not yet ended` },
};

export const outcomeWord = (outcome: string): string => OUTCOMES[outcome as Outcome]?.word ?? outcome;

export function OutcomeMark({ row }: { row: LedgerRow }) {
  // An upstream's own 4xx passes through and the exchange is complete: still not a good answer.
  const passedError = row.outcome === "completed" && row.status >= 400;
  const { word, tone, meaning } = OUTCOMES[row.outcome];
  return (
    <Mark tone={passedError ? "bad" : tone} title={passedError ? t`The provider's own error was passed on` : meaning}>
      {passedError ? t`Error ${row.status}` : word}
    </Mark>
  );
}

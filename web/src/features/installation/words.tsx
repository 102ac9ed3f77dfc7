/** How well something is, in colour, sign and word. */
import { t } from "@lingui/core/macro";
import { Mark, type Tone } from "@/ui/Mark";
import type { Part } from "./queries";

const STATES: Readonly<Record<Part["state"], { tone: Tone; word: string; worst: number }>> = {
  broken: { tone: "bad", word: t`Broken`, worst: 0 },
  warning: { tone: "warn", word: t`To look at`, worst: 1 },
  info: { tone: "idle", word: t`To know`, worst: 2 },
  ok: { tone: "ok", word: t`Well`, worst: 3 },
};

export const StateMark = ({ state }: { state: Part["state"] }) => <Mark tone={STATES[state].tone}>{STATES[state].word}</Mark>;

/** The worst first, else in the order in which they were found. */
export const byWorst = <Each,>(items: readonly Each[], stateOf: (each: Each) => Part["state"]): Each[] => [...items].sort((a, b) => STATES[stateOf(a)].worst - STATES[stateOf(b)].worst);

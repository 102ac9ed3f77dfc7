/** A request's time cut into phases: what its ledger row tells, in the order in which it passed. */
import type { LedgerRow } from "@/api/model";

export type Phase = "admit" | "failed" | "connect" | "waiting" | "answering";

/** Milliseconds from the request's arrival. */
export interface Spent {
  phase: Phase;
  from: number;
  to: number;
}

/** Without gaps from 0 to `whole`. Where admission was not recorded, waiting holds all that came before the first token. */
export function phasesOf(row: LedgerRow, whole: number): Spent[] {
  const attempts = row.attempt_log ?? [];
  const last = attempts.at(-1);
  const failed = last !== undefined && last.first_byte_ms === null;
  const ends: [Phase, number | null][] = [
    ["admit", row.admit_ms],
    ["failed", attempts.length > 1 && last ? last.started_ms : null],
    ["connect", row.admit_ms === null || row.connect_ms === null ? null : (last?.started_ms ?? row.admit_ms) + row.connect_ms],
    ["waiting", failed ? whole : (row.ttft_ms ?? whole)],
    ["answering", failed || row.ttft_ms === null ? null : whole],
  ];
  const spent: Spent[] = [];
  let from = 0;
  for (const [phase, end] of ends) {
    if (end === null) continue;
    const to = Math.min(whole, Math.max(from, end));
    spent.push({ phase, from, to });
    from = to;
  }
  return spent;
}

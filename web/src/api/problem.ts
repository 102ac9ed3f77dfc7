/** A failed call as RFC 9457 tells it: what happened, what to do, which fields, and an id to copy. */
import { t } from "@lingui/core/macro";
import { sentence } from "@/units/words";

export interface FieldProblem {
  /** `targets.0.provider` */
  field: string;
  problem: string;
  remedy: string;
}

/** The code of a problem that is the console's own: its patience is at an end. */
export const TOO_SLOW = "too_slow";

export class ApiProblem extends Error {
  readonly status: number;
  readonly code: string;
  readonly fix: string;
  readonly requestId: string;
  readonly fields: readonly FieldProblem[];
  /** All of the answer: some problems say more, e.g. what is there instead (`theirs`). */
  readonly told: Readonly<Record<string, unknown>>;

  constructor(status: number, document: unknown) {
    const told = (typeof document === "object" && document !== null ? document : {}) as Partial<
      Record<"detail" | "title" | "code" | "fix" | "request_id", string> & { errors: FieldProblem[] }
    >;
    super(sentence(told.detail ?? told.title ?? t`The gateway answered ${status}`));
    this.status = status;
    this.code = told.code ?? "";
    this.fix = told.fix ? sentence(told.fix) : "";
    this.requestId = told.request_id ?? "";
    this.fields = told.errors ?? [];
    this.told = told;
  }

  static unreachable(): ApiProblem {
    return new ApiProblem(0, { detail: t`The gateway does not answer`, fix: t`Check that it runs: sluicegate service status` });
  }

  static tooSlow(afterS: number): ApiProblem {
    return new ApiProblem(0, { code: TOO_SLOW, detail: t`The gateway has not answered within ${afterS} s`, fix: t`Try again. If it stays so, sluicegate doctor tells what holds it up` });
  }

  /** Anything thrown, as a problem. */
  static of(error: unknown): ApiProblem {
    if (error instanceof ApiProblem) return error;
    return new ApiProblem(0, { detail: error instanceof Error ? error.message : String(error) });
  }
}

import type { Target } from "@/api/model";

/** As the ledger names it: `provider/model`, of an HTTP provider its name alone. */
export const targetName = (target: Target): string => (target.model ? `${target.provider}/${target.model}` : target.provider);

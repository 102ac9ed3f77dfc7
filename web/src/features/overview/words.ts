import { t } from "@lingui/core/macro";

/** Why there are no figures of something in the sums that were asked for. */
export const whyNone = (asked: { data: unknown; error: Error | null }): string => (asked.data !== undefined ? t`no requests in this range` : (asked.error?.message ?? t`loading`));

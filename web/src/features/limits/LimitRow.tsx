/** One limit as a bar: settled, reserved by requests in flight, left; when it begins anew. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Skeleton } from "@mantine/core";
import { useInViewport } from "@mantine/hooks";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import type { Limit } from "@/api/model";
import { Unknown, Until } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Meter } from "@/ui/Meter";
import { share } from "@/units/count";
import { amount, bare, promise, whom } from "./amount";
import styles from "./limits.module.css";
import { limitStateQuery } from "./queries";

/** `linked`: its name leads to its drawer. */
export function LimitRow({ limit, linked = false }: { limit: Limit; linked?: boolean }) {
  // Only of what can be seen is the state asked for: there may be hundreds.
  const { ref, inViewport } = useInViewport<HTMLLIElement>();
  const state = useQuery({ ...limitStateQuery(limit.id), enabled: inViewport });
  const figures = state.data;
  const used = Number(figures?.used ?? 0);
  const reserved = Number(figures?.reserved ?? 0);
  const atMost = Number(figures?.at_most ?? limit.at_most);
  const left = Math.max(0, atMost - used - reserved);
  const filled = (used + reserved) / atMost;
  return (
    <li ref={ref} className={styles.limit}>
      <div className={styles.what}>
        <div className={styles.name}>
          {linked ? (
            <Link to="/limits/$name" params={{ name: limit.name }}>
              {limit.name}
            </Link>
          ) : (
            limit.name
          )}
        </div>
        <div className={styles.promise}>
          <Trans>
            {promise(limit)} for {whom(limit.scope)}
          </Trans>
          {limit.unpriced === "admit" && limit.metric === "cost_usd" ? t`; lets pass what has no price` : ""}
          {limit.when_unavailable === "admit" ? t`; lets pass while the quota authority is away` : ""}
        </div>
      </div>
      <div className={styles.bar}>
        {figures ? (
          <>
            <Meter used={used} reserved={reserved} atMost={atMost} label={t`${limit.name}: ${share(filled)} used or reserved`} />
            <div className={styles.figures}>
              <span>
                <Trans>
                  <b>{bare(limit.metric, used)}</b> settled
                </Trans>
              </span>
              <span>
                <Trans>
                  <b>{bare(limit.metric, reserved)}</b> reserved
                </Trans>
              </span>
              <span>
                <Trans>
                  <b>{bare(limit.metric, left)}</b> left
                </Trans>
              </span>
            </div>
          </>
        ) : state.error ? (
          <Unknown why={state.error.message} />
        ) : (
          <Skeleton height={8} my={10} />
        )}
      </div>
      <div className={styles.state}>
        {figures ? (
          <>
            {filled >= 1 ? (
              <Mark tone="bad" title={t`Requests that would need more than ${amount(limit.metric, left)} are refused`}>
                <Trans>Refusing</Trans>
              </Mark>
            ) : filled >= 0.8 ? (
              <Mark tone="warn">{t`${share(filled)} gone`}</Mark>
            ) : (
              <Mark tone="ok">{t`${share(filled)} gone`}</Mark>
            )}
            <span className={styles.resets}>
              {figures.resets_at ? (
                <Trans>
                  resets in <Until at={figures.resets_at} />
                </Trans>
              ) : limit.metric === "concurrent_requests" ? (
                t`counted now`
              ) : (
                t`never resets`
              )}
            </span>
          </>
        ) : null}
      </div>
    </li>
  );
}

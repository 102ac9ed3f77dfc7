/** The agent, which stands between the rules and the kernel: whether it works, and what is missing with what mends it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Ago } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Notice } from "@/ui/Notice";
import { plain, sentence } from "@/units/words";
import styles from "./interception.module.css";
import type { Interception } from "./queries";

/** One word on all of it. */
export function AgentMark({ state }: { state: Interception }) {
  if (!state.agent) return <Mark tone="idle">{t`No agent`}</Mark>;
  if (state.up === false) return <Mark tone="warn">{t`Turned off`}</Mark>;
  if (state.trouble) return <Mark tone="bad">{t`Nothing is armed`}</Mark>;
  if (state.capturing === false) return <Mark tone="warn" title={t`No worker answers the agent, or no rule captures`}>{t`Not capturing`}</Mark>;
  return <Mark tone="ok">{state.capturing ? t`Capturing` : t`Agent connected`}</Mark>;
}

export function Missing({ state }: { state: Interception }) {
  if (!state.agent) {
    return (
      <Notice title={t`The rules are kept, and nothing is captured`} snippet="sudo sluicegate service start --agent">
        <p>
          <Trans>{sentence(plain(state.trouble ?? ""))}. The agent is the one part that needs root: it puts the rules into the kernel. All else works without it.</Trans>
        </p>
      </Notice>
    );
  }
  if (state.up === false) {
    return (
      <Notice title={t`Interception is turned off on this host`} snippet="sudo sluicegate intercept up">
        <p>
          <Trans>Connections go to their destinations directly until it is turned on again.</Trans>
        </p>
      </Notice>
    );
  }
  if (state.trouble) {
    return (
      <Notice title={t`No rule can be armed`} snippet="sudo sluicegate doctor">
        <p>{sentence(plain(state.trouble))}.</p>
      </Notice>
    );
  }
  return null;
}

/** Canaries and what the agent had to mend. */
export function Watch({ state }: { state: Interception }) {
  const { canaries = [], repairs = [] } = state;
  if (!state.agent || (canaries.length === 0 && repairs.length === 0)) return null;
  return (
    <div className={styles.watch}>
      {canaries.map((canary) => (
        <span key={canary.path}>
          <Mark tone={canary.trouble ? "bad" : canary.last_well ? "ok" : "idle"} {...(canary.trouble ? { title: canary.trouble } : {})}>
            <Trans>Canary {canary.path}</Trans>
          </Mark>{" "}
          <Ago at={canary.last_well} why={canary.trouble ?? t`it has not come through yet`} />
          {canary.trouble ? <span className={styles.quiet}> {sentence(canary.trouble)}</span> : null}
        </span>
      ))}
      {state.try_until ? (
        <span>
          <Mark tone="warn">{t`On trial`}</Mark>
        </span>
      ) : null}
      {repairs.slice(-3).map((repair) => (
        <span key={repair.at + repair.what}>
          <Mark tone="warn">{t`Put back`}</Mark> {repair.what} <Ago at={repair.at} />
        </span>
      ))}
    </div>
  );
}

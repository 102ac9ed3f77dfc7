/** A denial in words: who, where to, how much may pass, and whether it holds. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import type { Denial } from "@/api/model";
import { Mark } from "@/ui/Mark";
import { bytes, exact } from "@/units/count";
import { per } from "@/units/words";

export const whoOf = (denial: Denial): string =>
  [denial.executable, denial.user && t`user ${denial.user}`, denial.cgroup && t`cgroup ${denial.cgroup}`, denial.container && t`container ${denial.container}`].filter(Boolean).join(", ");

export function whatOf(denial: Denial): string {
  const hosts = [denial.provider && t`provider ${denial.provider}`, ...denial.hosts, ...denial.cidrs].filter(Boolean).join(", ");
  return denial.ports.length > 0 ? t`${hosts} (ports ${denial.ports.join(", ")})` : hosts;
}

/** How much may pass in each window; undefined: nothing. */
export function limitOf(denial: Denial): { most: number; amount: (n: number) => string; words: string } | undefined {
  const { limit } = denial;
  if (limit === null) return undefined;
  if (limit.bytes != null) return { most: limit.bytes, amount: bytes, words: per(bytes(limit.bytes), limit.per) };
  const most = limit.connections ?? 0;
  return { most, amount: exact, words: per(plural(most, { one: "# connection", other: "# connections" }), limit.per) };
}

export function DenialMark({ denial }: { denial: Denial }) {
  const limit = limitOf(denial);
  if (denial.in_force === null || (denial.in_force && limit && denial.used === null)) {
    return (
      <Mark tone="warn" title={t`The kernel's side has said nothing of it yet`}>
        <Trans>Not known</Trans>
      </Mark>
    );
  }
  if (!denial.in_force) {
    return (
      <Mark tone="warn" title={t`Not in force: ${denial.reason ?? t`the kernel has not taken it yet`}`}>
        <Trans>Not in force</Trans>
      </Mark>
    );
  }
  if (limit && (denial.used ?? 0) < limit.most) {
    return (
      <Mark tone="ok" title={t`What fits may pass, until the limit of this window is used`}>
        <Trans>Within limit</Trans>
      </Mark>
    );
  }
  return (
    <Mark tone="bad" title={limit ? t`The limit of this window is used: what fits is refused` : t`The kernel refuses what fits`}>
      <Trans>Refusing</Trans>
    </Mark>
  );
}

/** Findings in words: who, on what evidence, and what was decided. */
import { t } from "@lingui/core/macro";
import type { Coverage, Decision, Discovery, DiscoveryState } from "@/api/model";
import { Mark, type Tone } from "@/ui/Mark";

const STATES: Readonly<Record<DiscoveryState, { word: string; tone: Tone; meaning: string; notYet: string }>> = {
  new: { word: t`New`, tone: "info", meaning: t`Nobody has decided yet`, notYet: t`Not new yet` },
  observe: { word: t`Observed`, tone: "idle", meaning: t`Seen, and left alone`, notYet: t`Not observed yet` },
  govern: { word: t`Governed`, tone: "ok", meaning: t`Its connections go through the gateway`, notYet: t`Not governed yet` },
  deny: { word: t`Denied`, tone: "bad", meaning: t`The kernel refuses its connections`, notYet: t`Not denied yet` },
  ignore: { word: t`Ignored`, tone: "idle", meaning: t`Not to be mentioned`, notYet: t`Not ignored yet` },
};

export const isState = (value: string): value is DiscoveryState => value in STATES;
export const stateWord = (state: string): string => (isState(state) ? STATES[state].word : state);
export const STATE_CHOICES = Object.entries(STATES).map(([value, { word }]) => ({ value, label: word }));

export function StateMark({ found }: { found: Discovery }) {
  const { word, tone, meaning, notYet } = STATES[found.state];
  if (found.in_force === false) {
    return (
      <Mark tone="warn" title={t`${word}, but not in force: ${found.reason ?? t`the kernel has not taken it yet`}`}>
        {notYet}
      </Mark>
    );
  }
  return (
    <Mark tone={tone} title={meaning}>
      {word}
    </Mark>
  );
}

const EVIDENCE: Readonly<Record<string, { word: string; meaning: string }>> = {
  sni: { word: t`TLS name`, meaning: t`The name in the ClientHello (SNI) is the provider's` },
  http: { word: t`Host header`, meaning: t`The Host header of a plain HTTP request names it` },
  dns: { word: t`Name lookup`, meaning: t`A name server gave this address for the provider's host` },
  ech: { word: t`Hidden name`, meaning: t`The ClientHello hides its name (ECH); a name server gave the address for the provider's host` },
  address: { word: t`Address only`, meaning: t`Only the address is known to be the provider's: it may be shared with others` },
};

export const evidenceOf = (evidence: string): { word: string; meaning: string } => EVIDENCE[evidence] ?? { word: evidence, meaning: evidence };

const COVERAGES: Readonly<Record<Coverage, { word: string; tone: Tone }>> = {
  covered: { word: t`Read`, tone: "ok" },
  http2: { word: t`Not read: HTTP/2`, tone: "warn" },
  no_libssl: { word: t`Not read: no libssl`, tone: "idle" },
  refused: { word: t`Not read`, tone: "bad" },
};

/** How far calls within TLS are read. */
export function CoverageMark({ state, reason }: { state: Coverage; reason: string | null }) {
  const { word, tone } = COVERAGES[state];
  return (
    <Mark tone={tone} title={reason ?? t`Models and tokens of its calls are counted`}>
      {word}
    </Mark>
  );
}

/** Who talks: the program, or the client whose traffic this host forwards. */
export const whoOf = (found: Discovery): string =>
  found.client ? t`Client ${found.client}` : (found.process ?? found.container ?? found.unit ?? (found.user ? t`A process of ${found.user}` : t`A process that has gone`));

/** What a decision is about, as a button names it. */
export const subjectOf = (found: Discovery): string => found.client ?? found.executable ?? found.container ?? found.process ?? (found.user ? t`user ${found.user}` : t`it`);

export type Action = Decision["action"];

export const ACTIONS: Readonly<Record<Action, { label: string; undo: string; deed: (found: Discovery) => string; effect: (found: Discovery) => string }>> = {
  govern: {
    label: t`Govern`,
    undo: t`Undo: govern`,
    deed: (found) => t`Govern ${subjectOf(found)}`,
    effect: (found) => t`Connections to ${found.host} go through this gateway within a second: metered, charged to an app, under its limits.`,
  },
  deny: {
    label: t`Deny`,
    undo: t`Undo: deny`,
    deed: (found) => t`Deny ${found.provider} for ${subjectOf(found)}`,
    effect: (found) =>
      found.client
        ? t`This host forwards nothing more from ${found.client} to ${found.host}.`
        : t`The kernel refuses new connections to all hosts of ${found.provider} with “not permitted”, and cuts open ones.`,
  },
  observe: {
    label: t`Observe`,
    undo: t`Undo: observe`,
    deed: () => t`Observe, leave it alone`,
    effect: () => t`Stays in this list and is left alone. What an earlier decision made is removed.`,
  },
  ignore: {
    label: t`Ignore`,
    undo: t`Undo: ignore`,
    deed: () => t`Ignore it`,
    effect: () => t`As observed, and out of the way: it is not among what is new.`,
  },
};

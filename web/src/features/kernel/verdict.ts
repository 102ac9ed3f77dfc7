/** Who is slow, in plain words, from the figures of one route and target (docs/telemetry.md says what each is).
 *
 * Until the first token a caller waits for four parties, each of which has a measure of its own. Medians are set against
 * each other, so that the parts are close to the truth and not exact: they are written with ≈.
 */
import { plural, t } from "@lingui/core/macro";
import type { RouteTelemetry } from "@/api/model";
import { latency, span } from "@/units/time";

export type PartyName = "client" | "gateway" | "network" | "provider";

export interface Part {
  party: PartyName;
  label: string;
  /** null = not measured. */
  ms: number | null;
  /** Above 0 where the part is smaller than what the measure can tell: it is below this. */
  belowMs: number;
  how: string;
}

export interface Verdict {
  headline: string;
  parts: readonly Part[];
  /** What else was seen: losses, closed windows, the pace of tokens. */
  remarks: readonly string[];
}

/** Percentiles are within an eighth of the truth. */
const RESOLUTION = 1 / 8;
/** Below this nobody is slow. */
const QUICK_MS = 20;
/** From which share of the whole on one party is named alone. */
const MOST = 0.5;
/** Shorter closed windows than this, in sum, are nothing to speak of. */
const CLOSED_S = 0.05;

export function verdictOf(figures: RouteTelemetry, windowS: number): Verdict {
  const parts = partsOf(figures);
  return { headline: headlineOf(parts, windowS), parts, remarks: remarksOf(figures, windowS) };
}

function partsOf({ client_rtt_ms, client_first_byte_ms, first_byte_ms, rtt_ms, ttft_ms }: RouteTelemetry): Part[] {
  // Many providers send a head at once and think after it: the client hears nothing before the first token.
  const first = first_byte_ms && Math.max(first_byte_ms.p50, ttft_ms?.p50 ?? 0);
  const own = client_first_byte_ms && first !== null ? Math.max(0, client_first_byte_ms.p50 - first) : null;
  const blurMs = (first ?? 0) * RESOLUTION;
  return [
    { party: "client", label: t`Client's network`, ms: client_rtt_ms?.p50 ?? null, belowMs: 0, how: t`one round trip between client and gateway` },
    { party: "gateway", label: t`Gateway`, ms: own, belowMs: own !== null && own < blurMs ? blurMs : 0, how: t`what a client waits for, less the first token's arrival` },
    { party: "network", label: t`Network to the provider`, ms: rtt_ms?.p50 ?? null, belowMs: 0, how: t`one round trip between gateway and provider` },
    {
      party: "provider",
      label: t`Provider`,
      ms: first === null ? null : Math.max(0, first - (rtt_ms?.p50 ?? 0)),
      belowMs: 0,
      how: rtt_ms === null ? t`until the answer's first token, network included` : t`until the answer's first token, less one round trip`,
    },
  ];
}

function headlineOf(parts: readonly Part[], windowS: number): string {
  const provider = parts.find((part) => part.party === "provider");
  if (!provider || provider.ms === null) return t`Too little was measured in the last ${windowS} s to say who is slow`;
  const whole = parts.reduce((sum, part) => sum + (part.ms ?? 0), 0);
  if (whole < QUICK_MS) return t`Nobody is slow: ≈ ${latency(whole)} in all until the first token`;
  const slowest = parts.reduce((most, part) => ((part.ms ?? 0) > (most.ms ?? 0) ? part : most));
  const slowestMs = slowest.ms ?? 0;
  const words = slowestMs >= whole * MOST ? ALONE : MAINLY;
  return words[slowest.party](t`≈ ${latency(slowestMs)} of ${latency(whole)} until the first token`);
}

type Told = (amount: string) => string;

/** Where one party takes most of the time. */
const ALONE: Readonly<Record<PartyName, Told>> = {
  client: (part) => t`The client is far away: ${part}`,
  gateway: (part) => t`The gateway takes the time: ${part}`,
  network: (part) => t`The network to the provider takes the time: ${part}`,
  provider: (part) => t`The provider takes the time: ${part}`,
};

/** Where several share it, and one has the largest part. */
const MAINLY: Readonly<Record<PartyName, Told>> = {
  client: (part) => t`No one alone. Most is the client's network: ${part}`,
  gateway: (part) => t`No one alone. Most is the gateway: ${part}`,
  network: (part) => t`No one alone. Most is the network to the provider: ${part}`,
  provider: (part) => t`No one alone. Most is the provider: ${part}`,
};

/** Who closed a receive window, by the API's names of sides. */
const CLOSED: readonly (readonly [string, Told])[] = [
  ["client", (time) => t`The client reads slower than the answer comes: it took nothing more for ${time}, summed over connections.`],
  ["upstream", (time) => t`The provider reads slower than the request comes: it took nothing more for ${time}, summed over connections.`],
  ["gateway_from_upstream", (time) => t`The gateway let the provider wait for ${time}, summed over connections.`],
  ["gateway_from_client", (time) => t`The gateway let the client wait for ${time}, summed over connections.`],
];

/** Who reset connections, by the API's names of sides. */
const RESETS: readonly (readonly [string, Told])[] = [
  ["upstream", (connections) => t`The provider reset ${connections}.`],
  ["client", (connections) => t`Clients reset ${connections}.`],
  ["gateway_to_upstream", (connections) => t`The gateway reset, towards the provider, ${connections}.`],
  ["gateway_to_client", (connections) => t`The gateway reset, towards clients, ${connections}.`],
];

function remarksOf(figures: RouteTelemetry, windowS: number): string[] {
  const { token_gap_ms: gap, retransmits, client_retransmits, full_s, resets_by } = figures;
  const remarks: string[] = [];
  if (gap) {
    remarks.push(
      retransmits
        ? t`Pieces of an answer come ${latency(gap.p50)} apart, one in a hundred ${latency(gap.p99)} or more: the provider's pace, and the network's, which lost some.`
        : t`Pieces of an answer come ${latency(gap.p50)} apart, one in a hundred ${latency(gap.p99)} or more: the provider's pace.`,
    );
  }
  if (retransmits) remarks.push(t`The network to the provider loses data: ${plural(retransmits, { one: "# segment", other: "# segments" })} sent again in ${windowS} s.`);
  if (client_retransmits) remarks.push(t`The client's network loses data: ${plural(client_retransmits, { one: "# segment", other: "# segments" })} sent again in ${windowS} s.`);
  for (const [who, told] of CLOSED) {
    const seconds = full_s?.[who] ?? 0;
    if (seconds >= CLOSED_S) remarks.push(told(seconds < 1 ? latency(seconds * 1000) : span(seconds)));
  }
  for (const [who, told] of RESETS) {
    const count = resets_by?.[who] ?? 0;
    if (count > 0) remarks.push(told(plural(count, { one: "# connection", other: "# connections" })));
  }
  return remarks;
}

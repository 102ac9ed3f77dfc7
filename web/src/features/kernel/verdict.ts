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
    { party: "client", label: t`Client's network`, ms: client_rtt_ms?.p50 ?? null, belowMs: 0, how: "one round trip between client and gateway" },
    { party: "gateway", label: t`Gateway`, ms: own, belowMs: own !== null && own < blurMs ? blurMs : 0, how: "what a client waits for, less the first token's arrival" },
    { party: "network", label: t`Network to the provider`, ms: rtt_ms?.p50 ?? null, belowMs: 0, how: "one round trip between gateway and provider" },
    {
      party: "provider",
      label: t`Provider`,
      ms: first === null ? null : Math.max(0, first - (rtt_ms?.p50 ?? 0)),
      belowMs: 0,
      how: rtt_ms === null ? "until the answer's first token, network included" : "until the answer's first token, less one round trip",
    },
  ];
}

function headlineOf(parts: readonly Part[], windowS: number): string {
  const provider = parts.find((part) => part.party === "provider");
  if (!provider || provider.ms === null) return `Too little was measured in the last ${windowS} s to say who is slow`;
  const whole = parts.reduce((sum, part) => sum + (part.ms ?? 0), 0);
  if (whole < QUICK_MS) return `Nobody is slow: ≈ ${latency(whole)} in all until the first token`;
  const slowest = parts.reduce((most, part) => ((part.ms ?? 0) > (most.ms ?? 0) ? part : most));
  const slowestMs = slowest.ms ?? 0;
  const share = `≈ ${latency(slowestMs)} of ${latency(whole)} until the first token`;
  return slowestMs >= whole * MOST ? `${SUBJECTS[slowest.party]}: ${share}` : `No one alone. Most is ${OBJECTS[slowest.party]}: ${share}`;
}

const SUBJECTS: Readonly<Record<PartyName, string>> = {
  client: "The client is far away",
  gateway: "The gateway takes the time",
  network: "The network to the provider takes the time",
  provider: "The provider takes the time",
};

const OBJECTS: Readonly<Record<PartyName, string>> = { client: "the client's network", gateway: "the gateway", network: "the network to the provider", provider: "the provider" };

function remarksOf(figures: RouteTelemetry, windowS: number): string[] {
  const { token_gap_ms: gap, retransmits, client_retransmits, full_s, resets_by } = figures;
  const remarks: string[] = [];
  if (gap) remarks.push(`Pieces of an answer come ${latency(gap.p50)} apart, one in a hundred ${latency(gap.p99)} or more: the provider's pace${retransmits ? ", and the network's, which lost some" : ""}.`);
  if (retransmits) remarks.push(`The network to the provider loses data: ${plural(retransmits, { one: "# segment", other: "# segments" })} sent again in ${windowS} s.`);
  if (client_retransmits) remarks.push(`The client's network loses data: ${plural(client_retransmits, { one: "# segment", other: "# segments" })} sent again in ${windowS} s.`);
  const closed: readonly (readonly [string, string])[] = [
    ["client", "The client reads slower than the answer comes: it took nothing more"],
    ["upstream", "The provider reads slower than the request comes: it took nothing more"],
    ["gateway_from_upstream", "The gateway let the provider wait"],
    ["gateway_from_client", "The gateway let the client wait"],
  ];
  for (const [who, words] of closed) {
    const seconds = full_s?.[who] ?? 0;
    if (seconds >= CLOSED_S) remarks.push(`${words} for ${seconds < 1 ? latency(seconds * 1000) : span(seconds)}, summed over connections.`);
  }
  const resets: readonly (readonly [string, string])[] = [
    ["upstream", "The provider reset"],
    ["client", "Clients reset"],
    ["gateway_to_upstream", "The gateway reset, towards the provider,"],
    ["gateway_to_client", "The gateway reset, towards clients,"],
  ];
  for (const [who, words] of resets) {
    const count = resets_by?.[who] ?? 0;
    if (count > 0) remarks.push(`${words} ${plural(count, { one: "# connection", other: "# connections" })}.`);
  }
  return remarks;
}

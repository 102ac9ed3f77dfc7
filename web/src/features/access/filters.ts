/** Which requests are shown, as it stands in the URL. */
import type { RequestState } from "@/api/model";

const STATES: readonly RequestState[] = ["pending", "approved", "denied", "withdrawn", "expired", "revoked"];

export function requestFilters(search: Record<string, unknown>): { state?: RequestState | undefined } {
  const state = STATES.find((each) => each === search["state"]);
  return state ? { state } : {};
}

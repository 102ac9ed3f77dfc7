/** Deeds that outlive a session ask once more who sits there. All calls pass here: what was wanted goes on by itself. */
import { useSyncExternalStore } from "react";

/** Asks the person; whether it is confirmed that it is they. */
type Ask = () => Promise<boolean>;

const RENEWAL_MS = 500;

let ask: Ask | undefined;
let asked: Promise<boolean> | undefined;
let renewals = 0;
const listeners = new Set<() => void>();

/** Who asks from now on; the frame, while it is there. Returns how to end that. */
export function askBy(asker: Ask): () => void {
  ask = asker;
  return () => {
    if (ask === asker) ask = undefined;
  };
}

/** Whether the question stands above everything else now. */
export const useIsAsked = (): boolean => useSyncExternalStore(listen, () => asked !== undefined);

/** `fetch` for the API's client. `by`: the one that sends. */
export async function send(request: Request, by: (request: Request) => Promise<Response>): Promise<Response> {
  const again = request.clone();
  const before = renewals;
  const response = await by(request);
  if (response.status === 403 && (await codeOf(response)) === "confirm_it_is_you") {
    return (await confirmed()) ? by(again) : response;
  }
  // Sent with the cookie that the session had before it was confirmed, while that was under way.
  if (response.status === 401 && request.method === "GET" && (asked !== undefined || renewals !== before)) {
    await new Promise((resolve) => setTimeout(resolve, RENEWAL_MS));
    return by(again);
  }
  return response;
}

/** One question for however many deeds wait for it. */
function confirmed(): Promise<boolean> {
  if (ask === undefined) return Promise.resolve(false);
  asked ??= ask().finally(() => {
    asked = undefined;
    renewals += 1;
    tell();
  });
  tell();
  return asked;
}

async function codeOf(response: Response): Promise<unknown> {
  const told: unknown = await response.clone().json().catch(() => undefined);
  return typeof told === "object" && told !== null && "code" in told ? told.code : undefined;
}

function listen(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

const tell = (): void => listeners.forEach((each) => each());

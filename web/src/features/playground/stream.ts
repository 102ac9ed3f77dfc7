/** One call of the data plane from the browser: with a key and no cookie, read as it arrives, stopped by its signal. */
import type { Wire } from "./dialects";

export interface Head {
  status: number;
  requestId: string | null;
  target: string | null;
  retryAfterS: number | null;
  /** Since the call was made. */
  afterMs: number;
}

interface Listener {
  head: (head: Head) => void;
  /** A piece of the answer: the parsed event of a stream, or text as it came where it is none. */
  event: (event: unknown) => void;
  /** The whole of an answer that is no stream, or that refuses. */
  whole: (body: string) => void;
}

/** How long a key that was just made may be unknown: workers have it within a second. */
const KEY_KNOWN_WITHIN_MS = 5000;
const ASK_AGAIN_MS = 150;

/** Returns when the answer has ended. Rejects where none came or it broke off, with an AbortError where it was stopped. */
export async function call(wire: Wire, key: string, listener: Listener, signal: AbortSignal): Promise<void> {
  const began = performance.now();
  let answer = await ask(wire, key, signal);
  while (answer.status === 401 && performance.now() - began < KEY_KNOWN_WITHIN_MS) {
    await answer.body?.cancel();
    await new Promise((resolve) => window.setTimeout(resolve, ASK_AGAIN_MS));
    signal.throwIfAborted();
    answer = await ask(wire, key, signal);
  }
  listener.head(headOf(answer.response, answer.afterMs));
  const kind = answer.response.headers.get("content-type") ?? "";
  const cut = kind.startsWith("text/event-stream") ? serverEvents : kind.startsWith("application/x-ndjson") ? lines : null;
  if (!answer.response.ok || !cut || !answer.body) {
    listener.whole(await answer.response.text());
    return;
  }
  await read(answer.body, cut, listener.event);
}

async function ask({ method, path, body }: Wire, key: string, signal: AbortSignal) {
  const began = performance.now();
  const response = await fetch(path, {
    method,
    headers: { authorization: `Bearer ${key}`, ...(body === undefined ? {} : { "content-type": "application/json" }) },
    ...(body === undefined ? {} : { body }),
    credentials: "omit", // the console's session is no business of the data plane, nor of a provider
    cache: "no-store",
    signal,
  });
  return { response, status: response.status, body: response.body, afterMs: performance.now() - began };
}

function headOf(response: Response, afterMs: number): Head {
  const after = Number(response.headers.get("retry-after"));
  return {
    status: response.status,
    requestId: response.headers.get("x-request-id"),
    target: response.headers.get("x-sluicegate-target"),
    retryAfterS: after > 0 ? after : null,
    afterMs,
  };
}

/** Cuts complete pieces off the front of `buffered`; what is left waits for more. */
type Cut = (buffered: string) => { pieces: string[]; rest: string };

const serverEvents: Cut = (buffered) => {
  const events = buffered.replaceAll("\r\n", "\n").split("\n\n");
  const rest = events.pop() ?? "";
  const data = (event: string): string =>
    event
      .split("\n")
      .flatMap((line) => (line.startsWith("data:") ? [line.slice(5).trimStart()] : []))
      .join("\n");
  return { pieces: events.map(data).filter((piece) => piece !== "" && piece !== "[DONE]"), rest };
};

const lines: Cut = (buffered) => {
  const found = buffered.split("\n");
  const rest = found.pop() ?? "";
  return { pieces: found.filter((line) => line.trim() !== ""), rest };
};

async function read(body: ReadableStream<Uint8Array>, cut: Cut, tell: (event: unknown) => void): Promise<void> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let buffered = "";
  for (;;) {
    const { done, value } = await reader.read();
    buffered += done ? `${decoder.decode()}\n\n` : decoder.decode(value, { stream: true });
    const { pieces, rest } = cut(buffered);
    buffered = rest;
    for (const piece of pieces) tell(parsed(piece));
    if (done) return;
  }
}

function parsed(piece: string): unknown {
  try {
    return JSON.parse(piece);
  } catch {
    return piece;
  }
}

/** One call to the data plane, as an app makes it: with a key, and without the console's session. */
import { ApiProblem } from "@/api/problem";

export interface Call {
  method: string;
  path: string;
  key: string;
  body: string | undefined;
  headers: Readonly<Record<string, string>>;
}

export interface Answer {
  status: string;
  tookMs: number;
  size: number;
  requestId: string | null;
  /** As it came; JSON indented. */
  text: string;
}

const MOST_SHOWN = 200_000;

export async function send({ method, path, key, body, headers }: Call): Promise<Answer> {
  const begunMs = performance.now();
  const answer = await fetch(window.location.origin + (path.startsWith("/") ? path : `/${path}`), {
    method,
    credentials: "omit",
    headers: { ...headers, Authorization: `Bearer ${key.trim()}`, ...(body === undefined ? {} : { "Content-Type": "application/json" }) },
    ...(body === undefined ? {} : { body }),
  }).catch(() => {
    throw ApiProblem.unreachable();
  });
  const text = await answer.text();
  return {
    status: `${answer.status} ${answer.statusText}`.trim(),
    tookMs: performance.now() - begunMs,
    size: new Blob([text]).size,
    requestId: answer.headers.get("x-request-id"),
    text: indented(text).slice(0, MOST_SHOWN),
  };
}

function indented(text: string): string {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Every call to the gateway's REST API goes through here. */
import { ApiProblem } from "./problem";

type Query = Record<string, string | number | boolean | undefined>;

async function call<Answer>(method: string, path: string, query: Query, body?: unknown): Promise<Answer> {
  const url = new URL(path, window.location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
  const answer = await fetch(url, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { "content-type": "application/json" } }),
  });
  const document: unknown = answer.status === 204 ? undefined : await answer.json().catch(() => undefined);
  if (!answer.ok) throw new ApiProblem(answer.status, document);
  return document as Answer;
}

export const read = <Answer>(path: string, query: Query = {}): Promise<Answer> => call("GET", path, query);
export const send = <Answer>(method: "POST" | "PATCH" | "DELETE", path: string, body?: unknown): Promise<Answer> => call(method, path, {}, body);

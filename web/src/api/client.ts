/** The client of the gateway's REST API, typed by its OpenAPI document (`npm run client` writes schema.d.ts). */
import createClient from "openapi-fetch";
import { send } from "./presence";
import { ApiProblem } from "./problem";
import type { paths } from "./schema";

/** How long the console waits for what it only reads. A deed takes the time that it takes: its button shows that it goes on. */
const PATIENCE_MS = 30_000;

function impatient(request: Request): Promise<Response> {
  if (request.method !== "GET") return fetch(request);
  const waiting = new AbortController();
  window.setTimeout(() => waiting.abort(new DOMException("", "TimeoutError")), PATIENCE_MS);
  return fetch(request, { signal: waiting.signal });
}

/** For what is read but takes long to be worked out: `api.GET(path, { fetch: patient })`. */
export const patient = (request: Request): Promise<Response> => send(request, fetch);

export const api = createClient<paths>({ baseUrl: window.location.origin, fetch: (request) => send(request, impatient) });

interface Answer<Body> {
  data?: Body;
  error?: unknown;
  response: Response;
}

/** The body of a good answer; anything else is thrown as a problem. */
export async function unwrap<Body>(call: Promise<Answer<Body>>): Promise<Body> {
  const { data, error, response } = await call.catch((reason: unknown) => {
    // fetch rejects only where no answer came
    throw reason instanceof DOMException && reason.name === "TimeoutError" ? ApiProblem.tooSlow(PATIENCE_MS / 1000) : ApiProblem.unreachable();
  });
  if (!response.ok) throw new ApiProblem(response.status, error);
  return data as Body; // of 204 there is none, and Body is undefined
}

/** Lists that the console holds as a whole are short; one that is not is cut here rather than read for minutes. */
const MOST_PAGES = 20;

/** All items of a list, page after page. */
export async function everyPage<Item>(page: (cursor: string | undefined) => Promise<Answer<{ items: Item[]; next_cursor: string | null }>>): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | undefined;
  for (let read = 0; read < MOST_PAGES; read += 1) {
    const answer = await unwrap(page(cursor));
    items.push(...answer.items);
    if (answer.next_cursor === null) break;
    cursor = answer.next_cursor;
  }
  return items;
}

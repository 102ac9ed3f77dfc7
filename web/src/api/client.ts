/** The client of the gateway's REST API, typed by its OpenAPI document (`npm run client` writes schema.d.ts). */
import createClient from "openapi-fetch";
import { ApiProblem } from "./problem";
import type { paths } from "./schema";

export const api = createClient<paths>({ baseUrl: window.location.origin });

interface Answer<Body> {
  data?: Body;
  error?: unknown;
  response: Response;
}

/** The body of a good answer; anything else is thrown as a problem. */
export async function unwrap<Body>(call: Promise<Answer<Body>>): Promise<Body> {
  const { data, error, response } = await call.catch(() => {
    throw ApiProblem.unreachable(); // fetch rejects only where no answer came
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

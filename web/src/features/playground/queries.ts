import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

export type RouteToTry = components["schemas"]["RouteToTry"];
type KeyMade = components["schemas"]["PlaygroundKeyCreated"];
type KeyWanted = components["schemas"]["PlaygroundKeyRequest"];

export const playgroundQuery = queryOptions({ queryKey: ["playground"], queryFn: () => unwrap(api.GET("/api/v1/playground")) });

/** As the ledger names every key of a playground. */
const KEY_NAME = "playground";

/** Keys of this page, in memory alone: they go with it, and by themselves after minutes. */
const kept = new Map<string, KeyMade>();
/** A key that ends so soon is not used for another call. */
const MARGIN_MS = 60_000;

export async function keyFor(wanted: KeyWanted): Promise<string> {
  const name = JSON.stringify([wanted.app, wanted.route, wanted.target]);
  const known = kept.get(name);
  if (known && Date.parse(known.expires_at) - Date.now() > MARGIN_MS) return known.key;
  const made = await unwrap(api.POST("/api/v1/playground/keys", { body: wanted }));
  kept.set(name, made);
  return made.key;
}

const LOOK_AGAIN_MS = 350;
const LOOKS = 12;

/** The ledger's row of a call, null where it has none. It is there within two seconds of the call's end: it is looked for
 * among the newest, since asking for a row that is not there yet is an error. */
export const ledgerRowQuery = (id: string, app: string) =>
  queryOptions({
    queryKey: ["playground-row", id],
    queryFn: async ({ signal }) => {
      for (let look = 0; look < LOOKS; look += 1) {
        const page = await unwrap(api.GET("/api/v1/ledger", { params: { query: { app, key: KEY_NAME, limit: 20 } }, signal }));
        const row = page.items.find((each) => each.id === id);
        if (row) return row;
        await new Promise((resolve) => window.setTimeout(resolve, LOOK_AGAIN_MS));
        signal.throwIfAborted();
      }
      return null;
    },
    staleTime: Infinity,
  });

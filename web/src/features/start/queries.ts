import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { DialectName } from "@/api/model";

/** Adds the provider, or gives the one that is there another address and key. */
export async function keepProvider(there: boolean, wanted: { name: string; dialect: DialectName; base_url: string; secret: string }) {
  const { secret, ...provider } = wanted;
  const credentials = secret === "" ? [] : [{ name: "main", value: secret }];
  if (!there) return unwrap(api.POST("/api/v1/providers", { body: { ...provider, credentials } }));
  return unwrap(api.PATCH("/api/v1/providers/{ref}", { params: { path: { ref: wanted.name } }, body: { dialect: provider.dialect, base_url: provider.base_url, credentials } }));
}

/** Asks the provider for its models with the key that was stored: whether it is taken is known then. */
export const tryProvider = (name: string) => unwrap(api.POST("/api/v1/providers/{ref}/test", { params: { path: { ref: name } }, body: {} }));

export const makeBudget = (app: string, usd: number) =>
  unwrap(api.POST("/api/v1/limits", { body: { name: `${app}-month`, scope: { app }, metric: "cost_usd", window: "month", at_most: usd, unpriced: "admit" } }));

/** The newest request of an app, anew with each event of the live feed. */
export const newestOf = (app: string) =>
  queryOptions({
    queryKey: ["ledger", "newest", "start", app],
    queryFn: async () => (await unwrap(api.GET("/api/v1/ledger", { params: { query: { app, limit: 1 } } }))).items[0] ?? null,
    refetchInterval: 5_000,
  });

/** A key that was just made is known in every worker within a second. */
const NOT_YET = { status: 401, tries: 4, pauseMs: 500 };

/** One call from this page, as an app makes it. Throws what went wrong as text. */
export async function callNow(key: string, route: string): Promise<string> {
  let answer = await call(key, route);
  for (let tried = 1; answer.status === NOT_YET.status && tried < NOT_YET.tries; tried += 1) {
    await new Promise((resolve) => window.setTimeout(resolve, NOT_YET.pauseMs));
    answer = await call(key, route);
  }
  const said = (await answer.json()) as { choices?: { message?: { content?: string } }[]; error?: { message?: string } };
  if (!answer.ok) throw new Error(said.error?.message ?? `${answer.status}`);
  return said.choices?.[0]?.message?.content ?? "";
}

const call = (key: string, route: string): Promise<Response> =>
  fetch("/v1/chat/completions", {
    method: "POST",
    credentials: "omit",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: route, max_tokens: 128, messages: [{ role: "user", content: "Say hello in one short sentence." }] }),
  });

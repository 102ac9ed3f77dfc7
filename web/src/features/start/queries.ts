import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import { ApiProblem } from "@/api/problem";
import type { DialectName, Provider, ProviderTested } from "@/api/model";

interface Wanted {
  name: string;
  dialect: DialectName;
  base_url: string;
  /** "": none, or the one that is there. */
  secret: string;
}

/** Adds the provider, or gives the one that is there another address and, where one was typed, another key. */
export async function keepProvider(there: Provider | undefined, { secret, ...provider }: Wanted) {
  const credentials = secret === "" ? [] : [{ name: "main", value: secret }];
  if (!there) return unwrap(api.POST("/api/v1/providers", { body: { ...provider, credentials } }));
  const { dialect, base_url } = provider;
  return unwrap(api.PATCH("/api/v1/providers/{ref}", { params: { path: { ref: there.name } }, body: { dialect, base_url, ...(secret === "" ? {} : { credentials }) } }));
}

/** Asks the provider for its models with the key that was stored: whether it is taken is known then. */
export const tryProvider = (name: string) => unwrap(api.POST("/api/v1/providers/{ref}/test", { params: { path: { ref: name } }, body: {} }));

/** The same for a provider that an earlier visit has left, once a visit. */
export const triedQuery = (name: string) =>
  queryOptions({ queryKey: ["start", "tried", name], queryFn: () => tryProvider(name), staleTime: Infinity, retry: false, refetchOnWindowFocus: false });

const TAKEN = ["accepted", "unproven", "limited"];

/** Whether requests can be sent there with one of its keys. */
export const takes = (tested: ProviderTested): boolean => tested.credentials.some((each) => TAKEN.includes(each.verdict));

export const makeBudget = (app: string, usd: number) =>
  unwrap(api.POST("/api/v1/limits", { body: { name: `${app}-month`, scope: { app }, metric: "cost_usd", window: "month", at_most: usd, unpriced: "admit" } }));

/** The newest request of an app, anew with each event of the live feed. */
export const newestCall = (app: string) =>
  queryOptions({
    queryKey: ["ledger", "newest", "start", app],
    queryFn: async () => (await unwrap(api.GET("/api/v1/ledger", { params: { query: { app, limit: 1 } } }))).items[0] ?? null,
    refetchInterval: 5_000,
  });

/** A key that was just made is known in every worker within a second. */
const NOT_YET = { status: 401, tries: 4, pauseMs: 500 };

/** One call from this page, as an app makes it. Throws what went wrong. */
export async function callNow(key: string, route: string): Promise<string> {
  let answer = await call(key, route);
  for (let tried = 1; answer.status === NOT_YET.status && tried < NOT_YET.tries; tried += 1) {
    await new Promise((resolve) => window.setTimeout(resolve, NOT_YET.pauseMs));
    answer = await call(key, route);
  }
  // What stands between may answer with a page of its own.
  const said = (await answer.json().catch(() => ({}))) as { choices?: { message?: { content?: string } }[]; error?: { message?: string } };
  if (!answer.ok) throw new ApiProblem(answer.status, said.error?.message ? { detail: said.error.message } : {});
  return said.choices?.[0]?.message?.content ?? "";
}

const call = (key: string, route: string): Promise<Response> =>
  fetch("/v1/chat/completions", {
    method: "POST",
    credentials: "omit",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: route, max_tokens: 128, messages: [{ role: "user", content: "Say hello in one short sentence." }] }),
  }).catch(() => {
    throw ApiProblem.unreachable();
  });

import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { SignOnPolicy, SignOnProvider, SignOnProviderWanted } from "@/api/model";

export const policyQuery = queryOptions({ queryKey: ["sign-on", "policy"], queryFn: () => unwrap(api.GET("/api/v1/sign-on")) });

export const signOnProvidersQuery = queryOptions({
  queryKey: ["sign-on", "providers"],
  queryFn: async () => (await unwrap(api.GET("/api/v1/sign-on/providers"))).items,
});

export type Wanted = Pick<SignOnPolicy, "rules" | "default" | "passwords">;

/** Replaces rules and default as a whole, unless somebody else has meanwhile. */
export const setPolicy = (wanted: Wanted, version: number) =>
  unwrap(api.PUT("/api/v1/sign-on", { params: { header: { "if-match": `"${version}"` } }, body: wanted }));

export const addProvider = (wanted: SignOnProviderWanted) => unwrap(api.POST("/api/v1/sign-on/providers", { body: wanted }));
export const changeProvider = (before: SignOnProvider, wanted: Partial<SignOnProviderWanted>) =>
  unwrap(api.PATCH("/api/v1/sign-on/providers/{ref}", { params: { path: { ref: String(before.id) }, header: { "if-match": `"${before.version}"` } }, body: wanted }));
export const removeProvider = (id: number) => unwrap(api.DELETE("/api/v1/sign-on/providers/{ref}", { params: { path: { ref: String(id) } } }));
export const testProvider = (id: number) => unwrap(api.POST("/api/v1/sign-on/providers/{ref}/test", { params: { path: { ref: String(id) } } }));

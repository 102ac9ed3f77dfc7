/** The own account in the API: how one signs in, and where one is signed in. */
import { queryOptions, useQueryClient } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import { sessionQuery } from "@/api/session";

export const accountQuery = queryOptions({ queryKey: ["account"], queryFn: () => unwrap(api.GET("/api/v1/account")) });

export const passkeysQuery = queryOptions({
  queryKey: ["account", "passkeys"],
  queryFn: async () => (await unwrap(api.GET("/api/v1/account/passkeys"))).items,
});

export const ownSessionsQuery = queryOptions({
  queryKey: ["account", "sessions"],
  queryFn: async () => (await unwrap(api.GET("/api/v1/account/sessions"))).items,
});

/** All of the above anew, and what the session may do: a first factor may open the rest of the console. */
export function useRenewed(): () => Promise<void> {
  const queries = useQueryClient();
  return async () => {
    await queries.invalidateQueries({ queryKey: accountQuery.queryKey });
    await queries.invalidateQueries({ queryKey: sessionQuery.queryKey });
  };
}

/** `password`: one's own, once more; null where there is none. */
export const beginTotp = (password: string | null) => unwrap(api.POST("/api/v1/account/totp", { body: { password } }));
export const confirmTotp = (code: string) => unwrap(api.POST("/api/v1/account/totp/confirm", { body: { code } }));
export const removeTotp = (password: string | null) => unwrap(api.POST("/api/v1/account/totp/remove", { body: { password } }));
export const makeRecoveryCodes = (password: string | null) => unwrap(api.POST("/api/v1/account/recovery-codes", { body: { password } }));
export const renamePasskey = (id: number, name: string) => unwrap(api.PATCH("/api/v1/account/passkeys/{id}", { params: { path: { id } }, body: { name } }));
export const removePasskey = (id: number, password: string | null) =>
  unwrap(api.POST("/api/v1/account/passkeys/{id}/remove", { params: { path: { id } }, body: { password } }));
export const endSession = (id: number) => unwrap(api.DELETE("/api/v1/account/sessions/{id}", { params: { path: { id } } }));
export const endOtherSessions = () => unwrap(api.DELETE("/api/v1/account/sessions"));

/** Who is signed in, and what they may do. The server enforces it; the console only leaves out what would be refused. */
import { queryOptions, useQuery, type QueryClient } from "@tanstack/react-query";
import { api, unwrap } from "./client";
import type { Permission, SecondStep, Session } from "./model";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: () => unwrap(api.GET("/api/v1/session")),
  staleTime: 5 * 60_000,
  retry: false,
});

/** Signs in, or tells which second step is to follow. */
export const signIn = (username: string, password: string): Promise<Session | SecondStep> =>
  unwrap(api.POST("/api/v1/session", { body: { username, password } }));
export const signInByCode = (ticket: string, code: string): Promise<Session> => unwrap(api.POST("/api/v1/session/code", { body: { ticket, code } }));

/** Signs out here. The URL is where the browser has to go to sign out at the identity provider, too. */
export async function signOut(queries: QueryClient): Promise<string | null> {
  const { url } = await unwrap(api.POST("/api/v1/sign-on/sign-out"));
  queries.clear();
  return url;
}

/** Asks of a permission whether the signed-in user holds it; false while that is not yet known. */
export function useMay(): (permission: Permission) => boolean {
  const held = useQuery(sessionQuery).data?.permissions;
  return (permission) => held?.includes(permission) ?? false;
}

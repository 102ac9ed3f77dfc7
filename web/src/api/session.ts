/** Who is signed in, and what they may do. The server enforces it; the console only leaves out what would be refused. */
import { queryOptions, useQuery, type QueryClient } from "@tanstack/react-query";
import { api, unwrap } from "./client";
import { ApiProblem } from "./problem";
import type { Permission, SecondStep, Session } from "./model";

/** Whether this page came without a session's cookie, which it cannot see itself: the gateway says so along with it. */
export function cameWithout(): boolean {
  const [page] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  // Not told outside of secure contexts: then the session is asked for.
  return page?.serverTiming?.some(({ name, description }) => name === "session" && description === "none") ?? false;
}

let isFirst = true;

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: () => {
    const inVain = isFirst && cameWithout();
    isFirst = false;
    if (inVain) throw new ApiProblem(401, {});
    return unwrap(api.GET("/api/v1/session"));
  },
  staleTime: 5 * 60_000,
  retry: false,
});

/** Signs in, or tells which second step is to follow. */
export const signIn = (username: string, password: string): Promise<Session | SecondStep> =>
  unwrap(api.POST("/api/v1/session", { body: { username, password } }));
export const signInByCode = (ticket: string, code: string): Promise<Session> => unwrap(api.POST("/api/v1/session/code", { body: { ticket, code } }));

/** How it can be confirmed who sits here, and whether that was done lately. */
export const confirmationQuery = queryOptions({ queryKey: ["confirmation"], queryFn: () => unwrap(api.GET("/api/v1/session/confirmation")), staleTime: 0, gcTime: 0 });

export const confirmIt = (by: { password: string } | { code: string }) => unwrap(api.POST("/api/v1/session/confirmation", { body: by }));

/** Signs out here. The URL is where the browser has to go to sign out at the identity provider, too. */
export async function signOut(queries: QueryClient): Promise<string | null> {
  const { url } = await unwrap(api.POST("/api/v1/sign-on/sign-out"));
  queries.clear();
  return url;
}

/** What names begin with that the signed-in user gives to apps, users and tokens; "" where they are free. */
export function useNameMark(): string {
  return useQuery(sessionQuery).data?.names_begin_with ?? "";
}

/** Asks of a permission whether the signed-in user holds it; false while that is not yet known. */
export function useMay(): (permission: Permission) => boolean {
  const held = useQuery(sessionQuery).data?.permissions;
  return (permission) => held?.includes(permission) ?? false;
}

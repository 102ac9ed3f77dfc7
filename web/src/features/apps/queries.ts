import { queryOptions } from "@tanstack/react-query";
import { read, send } from "@/api/client";
import type { App, Key, KeyMade, Listed, Team } from "@/api/model";

export const teamsQuery = queryOptions({
  queryKey: ["teams"],
  queryFn: () => read<Listed<Team>>("/api/v1/teams", { limit: 1000 }),
});

export const appsQuery = queryOptions({
  queryKey: ["apps"],
  queryFn: () => read<Listed<App>>("/api/v1/apps", { limit: 1000 }),
});

export const appQuery = (name: string) =>
  queryOptions({ queryKey: ["apps", name], queryFn: () => read<App>(`/api/v1/apps/${encodeURIComponent(name)}`) });

export const keysQuery = (app: string) =>
  queryOptions({ queryKey: ["keys", app], queryFn: () => read<Listed<Key>>("/api/v1/keys", { app, limit: 1000 }) });

export const makeTeam = (name: string): Promise<Team> => send("POST", "/api/v1/teams", { name });
export const makeApp = (app: { name: string; team: string; routes: "*" | string[] }): Promise<App> => send("POST", "/api/v1/apps", app);
export const makeKey = (key: { app: string; name: string; expires_at?: string }): Promise<KeyMade> => send("POST", "/api/v1/keys", key);
export const revokeKey = (id: number): Promise<void> => send("DELETE", `/api/v1/keys/${id}`);

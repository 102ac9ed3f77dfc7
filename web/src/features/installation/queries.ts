import { queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
export type Health = Schemas["InstallationHealth"];
export type Part = Schemas["PartHealth"];
export type Finding = Schemas["DoctorFinding"];
export type Findings = Schemas["DoctorFindings"];
export type Setting = Schemas["SettingView"];

export const healthQuery = queryOptions({ queryKey: ["health"], queryFn: () => unwrap(api.GET("/api/v1/health")), refetchInterval: 5000 });

export const askDoctor = (again: boolean) => unwrap(api.GET("/api/v1/health/findings", { params: { query: { again } } }));

/** What the doctor finds takes a second or two to find: not again while it is fresh. */
export const findingsQuery = queryOptions({ queryKey: ["findings"], queryFn: () => askDoctor(false), staleTime: 60_000, refetchOnWindowFocus: false });

export const settingsQuery = queryOptions({ queryKey: ["settings"], queryFn: () => unwrap(api.GET("/api/v1/settings")), staleTime: 60_000 });

export const backupsQuery = queryOptions({
  queryKey: ["audit", "backups"],
  queryFn: () => unwrap(api.GET("/api/v1/audit", { params: { query: { kind: "backup", limit: 20 } } })),
});

import { queryOptions } from "@tanstack/react-query";
import { api, everyPage, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
export type Rule = Schemas["InterceptionView"];
export type RuleState = Schemas["InterceptionState"];
export type Interception = Schemas["Interception"];
export type RuleWanted = Schemas["InterceptionDocument"];
export type Caller = Schemas["CallerView"];
export type EndedFlow = Schemas["EndedFlow"];
export type Authority = Schemas["AuthorityView"];
export type MakeAction = Schemas["MakeAction"];

/** As it stands in the kernel: its counts move without an event. */
export const interceptionQuery = queryOptions({
  queryKey: ["interception"],
  queryFn: () => unwrap(api.GET("/api/v1/interception")),
  refetchInterval: 2000,
});

export const rulesQuery = queryOptions({
  queryKey: ["interception-rules"],
  queryFn: () => everyPage((cursor) => api.GET("/api/v1/interception-rules", { params: { query: { limit: 1000, cursor: cursor ?? null } } })),
});

export const endedFlowsQuery = (rule: string | null, limit: number) =>
  queryOptions({
    queryKey: ["interception-flows", rule, limit],
    queryFn: () => unwrap(api.GET("/api/v1/interception/flows", { params: { query: { rule, limit } } })),
    refetchInterval: 5000,
  });

export const authorityQuery = queryOptions({ queryKey: ["authority"], queryFn: () => unwrap(api.GET("/api/v1/authority")) });

export const ruleQuery = (id: number) =>
  queryOptions({ queryKey: ["interception-rules", id], queryFn: () => unwrap(api.GET("/api/v1/interception-rules/{ref}", { params: { path: { ref: String(id) } } })) });

export const makeRule = (rule: RuleWanted) => unwrap(api.POST("/api/v1/interception-rules", { body: rule }));

/** `version`: the one that was seen; 412 where it is another by now. */
export const changeRule = (id: number, version: number, patch: Schemas["InterceptionPatch"]) =>
  unwrap(api.PATCH("/api/v1/interception-rules/{ref}", { params: { path: { ref: String(id) }, header: { "if-match": `"${version}"` } }, body: patch }));
export const removeRule = (id: number) => unwrap(api.DELETE("/api/v1/interception-rules/{ref}", { params: { path: { ref: String(id) } } }));

export const makeAuthority = (action: MakeAction) => unwrap(api.POST("/api/v1/authority", { body: { action } }));
export const removeAuthority = () => unwrap(api.DELETE("/api/v1/authority"));

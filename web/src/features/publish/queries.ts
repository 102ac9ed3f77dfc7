/** The draft, what it changes, and the versions that were published. */
import { keepPreviousData, queryOptions } from "@tanstack/react-query";
import { api, unwrap } from "@/api/client";
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
export type Draft = Schemas["DraftView"];
export type Differences = Schemas["DifferencesView"];
export type Difference = Schemas["DifferenceView"];
export type Conflict = Schemas["ConflictView"];
export type DryRun = Schemas["DryRunView"];
export type Version = Schemas["VersionView"];
export type DraftKind = "provider" | "route" | "team" | "app" | "limit" | "price" | "interception-rule";

/** Cheap: the frame asks again and again. */
export const draftQuery = queryOptions({
  queryKey: ["draft", "summary"],
  queryFn: () => unwrap(api.GET("/api/v1/draft")),
  refetchInterval: 15_000,
});

/** By revision: what was asked of an older draft is never shown for a newer one. */
export const draftDiffQuery = (revision: number) =>
  queryOptions({ queryKey: ["draft", "diff", revision], queryFn: () => unwrap(api.GET("/api/v1/draft/diff")), staleTime: 0 });

export const draftDryRunQuery = (revision: number) =>
  queryOptions({ queryKey: ["draft", "dry-run", revision], queryFn: () => unwrap(api.POST("/api/v1/draft/dry-run")), staleTime: 60_000, refetchOnWindowFocus: false, retry: false });

export const draftDocumentQuery = queryOptions({
  queryKey: ["draft", "document"],
  queryFn: () => unwrap(api.GET("/api/v1/draft/document")),
  staleTime: Infinity,
  gcTime: 0,
  refetchOnWindowFocus: false,
});

/** One entry as the draft has it, or as it is in force. */
export const draftEntryQuery = (kind: DraftKind, name: string) =>
  queryOptions({
    queryKey: ["draft", "entry", kind, name],
    queryFn: () => unwrap(api.GET("/api/v1/draft/entries/{kind}/{ref}", { params: { path: { kind, ref: name } } })),
  });

export const versionsQuery = (limit: number) =>
  queryOptions({
    queryKey: ["versions", limit],
    queryFn: () => unwrap(api.GET("/api/v1/versions", { params: { query: { limit } } })),
    placeholderData: keepPreviousData,
  });

export const versionQuery = (number: number) =>
  queryOptions({ queryKey: ["version", number], queryFn: () => unwrap(api.GET("/api/v1/versions/{number}", { params: { path: { number } } })), staleTime: Infinity });

export const versionDiffQuery = (number: number) =>
  queryOptions({ queryKey: ["version", number, "diff"], queryFn: () => unwrap(api.GET("/api/v1/versions/{number}/diff", { params: { path: { number } } })), staleTime: 0 });

export const versionDryRunQuery = (number: number) =>
  queryOptions({
    queryKey: ["version", number, "dry-run"],
    queryFn: () => unwrap(api.POST("/api/v1/versions/{number}/dry-run", { params: { path: { number } } })),
    refetchOnWindowFocus: false,
    retry: false,
  });

const seen = (revision: number) => ({ "if-match": `"${revision}"` });

export const saveDocument = (document: string, revision: number) => unwrap(api.PUT("/api/v1/draft", { body: { document }, params: { header: seen(revision) } }));
export const discardDraft = (revision: number) => unwrap(api.DELETE("/api/v1/draft", { params: { header: seen(revision) } }));
export const publishDraft = (revision: number, note: string) => unwrap(api.POST("/api/v1/versions", { body: { draft: revision, note } }));
export const keepVersion = (note: string) => unwrap(api.POST("/api/v1/versions", { body: { note } }));
export const restoreVersion = (number: number) => unwrap(api.POST("/api/v1/versions/{number}/restore", { params: { path: { number } } }));
export const resolve = (conflict: Conflict, take: "draft" | "in_force") =>
  unwrap(api.POST("/api/v1/draft/resolve", { body: { kind: conflict.kind, name: conflict.name, field: conflict.field, take } }));

/** Draft a change of one entry. `etag`: of the entry as it was seen; without it, whatever is there is changed. */
export const draftEntry = (kind: DraftKind, name: string, patch: Record<string, unknown>, etag?: string) =>
  unwrap(api.PATCH("/api/v1/draft/entries/{kind}/{ref}", { params: { path: { kind, ref: name }, header: etag ? { "if-match": `"${etag}"` } : {} }, body: patch }));

export const draftRemoval = (kind: DraftKind, name: string) => unwrap(api.DELETE("/api/v1/draft/entries/{kind}/{ref}", { params: { path: { kind, ref: name } } }));

/** Take one entry out of the draft again. */
export const takeBack = (kind: string, name: string) =>
  unwrap(api.DELETE("/api/v1/draft/entries/{kind}/{ref}", { params: { path: { kind: kind.replace(" ", "-") as DraftKind, ref: name }, query: { revert: true } } }));

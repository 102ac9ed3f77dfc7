/** An app as the form holds it: read from the API's views and from a draft's entries, which leave out what is as usual. */
import type { components } from "@/api/schema";
import type { Shape } from "@/features/publish/useEditing";

export type AppWanted = components["schemas"]["AppEntry"];

export interface CorsWritten {
  origins: readonly string[];
  methods: readonly string[];
  headers: readonly string[];
  expose: readonly string[];
  credentials: boolean;
  maxAge: number;
}

export interface AppWritten {
  name: string;
  team: string;
  /** All routes, those made later too. */
  all: boolean;
  routes: readonly string[];
  /** Null: no web page may use its keys. */
  cors: CorsWritten | null;
  egress: readonly string[];
  sources: readonly string[];
}

export const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
export const NO_PAGES: CorsWritten = { origins: [], methods: METHODS, headers: ["*"], expose: [], credentials: false, maxAge: 600 };
export const NEW: AppWritten = { name: "", team: "", all: false, routes: [], cors: null, egress: [], sources: [] };

function writtenOf(source: Readonly<Record<string, unknown>>): AppWritten {
  const app = source as Partial<AppWanted>;
  const cors = app.cors;
  return {
    name: app.name ?? "",
    team: app.team ?? "",
    all: app.routes === "*",
    routes: Array.isArray(app.routes) ? app.routes : [],
    cors: cors
      ? {
          origins: cors.origins,
          methods: cors.methods ?? NO_PAGES.methods,
          headers: cors.headers ?? NO_PAGES.headers,
          expose: cors.expose ?? NO_PAGES.expose,
          credentials: cors.credentials ?? NO_PAGES.credentials,
          maxAge: cors.max_age ?? NO_PAGES.maxAge,
        }
      : null,
    egress: app.egress ?? [],
    sources: app.sources ?? [],
  };
}

export const wantedOf = (written: AppWritten): AppWanted => ({
  name: written.name.trim(),
  team: written.team.trim(),
  routes: written.all ? "*" : [...written.routes].sort(), // their order means nothing
  cors: written.cors && {
    origins: [...written.cors.origins],
    methods: [...written.cors.methods],
    headers: [...written.cors.headers],
    expose: [...written.cors.expose],
    credentials: written.cors.credentials,
    max_age: written.cors.maxAge,
  },
  egress: [...written.egress].sort(),
  sources: [...written.sources].sort(),
});

export const APP: Shape<AppWritten> = { kind: "app", read: writtenOf, wanted: (written) => ({ ...wantedOf(written) }) };

export const isComplete = (written: AppWritten): boolean => written.name.trim() !== "" && written.team.trim() !== "" && (written.cors === null || written.cors.origins.length > 0);

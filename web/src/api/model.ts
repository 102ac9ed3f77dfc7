/** The REST API's nouns by their short names. */
import type { components } from "./schema";

type Schemas = components["schemas"];

export type Role = Schemas["Role"];
export type Permission = Schemas["Permission"];
export type Session = Schemas["Session"];
export type Provider = Schemas["ProviderView"];
export type Route = Schemas["RouteView"];
export type Target = Schemas["TargetView"];
export type Team = Schemas["TeamView"];
export type App = Schemas["AppView"];
export type Key = Schemas["KeyView"];
export type KeyMade = Schemas["KeyCreated"];
export type Metric = Schemas["Metric"];
export type Scope = Schemas["ScopeView"];
export type Limit = Schemas["LimitView"];
export type User = Schemas["UserView"];
export type UserMade = Schemas["UserCreated"];
export type Token = Schemas["TokenView"];
export type TokenMade = Schemas["TokenCreated"];

export type Outcome = "completed" | "client_gone" | "upstream_failed" | "refused" | "interrupted" | "open";

export interface LedgerRow {
  id: string;
  started_at: string;
  team: string;
  app: string;
  key: string | null;
  route: string | null;
  target: string | null;
  provider: string | null;
  dialect: string;
  model: string | null;
  status: number;
  input_tokens: number | null;
  cached_tokens: number | null;
  cache_write_tokens: number | null;
  output_tokens: number | null;
  reasoning_tokens: number | null;
  cost_usd_micros: number | null;
  latency_ms: number | null;
  ttft_ms: number | null;
  upstream_status: number | null;
  attempts: number;
  outcome: Outcome;
  error_code: string | null;
  estimated: boolean;
  overrun: number;
  stream: boolean;
  client_request_id: string | null;
  client_ip: string | null;
  process: string | null;
  user: string | null;
  container: string | null;
}

export interface UsageItem {
  team?: string | null;
  app?: string | null;
  route?: string | null;
  model?: string | null;
  target?: string | null;
  provider?: string | null;
  day?: string;
  hour?: string;
  requests: number;
  errors: number;
  unpriced: number;
  input_tokens: number;
  output_tokens: number;
  cost_usd_micros: number | null;
}

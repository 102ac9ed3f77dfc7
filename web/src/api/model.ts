/** The REST API's nouns by their short names. */

interface Kept {
  id: number;
  version: number;
  created_at: string;
  updated_at: string;
}

export interface Listed<Item> {
  items: Item[];
  next_cursor: string | null;
}

export type Role = "owner" | "admin" | "operator" | "viewer" | "team-admin" | "team-member";
export type DialectName = "openai" | "anthropic" | "gemini" | "mistral" | "ollama" | "http";
export type Metric = "requests" | "input_tokens" | "output_tokens" | "total_tokens" | "cost_usd" | "concurrent_requests";

export type Permission =
  | "session"
  | "configuration:read"
  | "configuration:write"
  | "services:read"
  | "apps:write"
  | "keys:write"
  | "usage:read"
  | "members"
  | "audit:read"
  | "metrics:read";

export interface Session {
  username: string;
  kind: string;
  role: Role;
  team: string | null;
  permissions: Permission[];
  expires_at: string | null;
}

export interface Credential {
  id: number;
  name: string;
  last_four: string;
}

export interface Provider extends Kept {
  name: string;
  dialect: DialectName;
  base_url: string;
  credentials: Credential[];
}

export interface Target {
  provider: string;
  model: string | null;
  weight: number;
}

export interface Route extends Kept {
  name: string;
  strategy: string;
  targets: Target[];
  retries: number;
  timeout: { connect: number; first_byte: number; idle: number; total: number };
  match: { host: string | null; path: string | null } | null;
  max_output_tokens: number;
  read_to_end: boolean;
}

export interface Team extends Kept {
  name: string;
  apps: string[];
}

export interface App extends Kept {
  name: string;
  team: string;
  routes: "*" | string[];
}

export interface Key extends Kept {
  app: string;
  name: string;
  prefix: string;
  expires_at: string | null;
}

export interface KeyMade extends Key {
  key: string | null;
}

export interface Scope {
  team?: string | null;
  app?: string | null;
  key?: string | null;
  route?: string | null;
  provider?: string | null;
  credential?: string | null;
  target?: string | null;
  model?: string | null;
}

export interface Limit extends Kept {
  name: string;
  scope: Scope;
  metric: Metric;
  window: string | null;
  at_most: number;
}

export interface LimitState {
  used: number;
  reserved: number;
  at_most: number;
  resets_at: string | null;
}

export interface User extends Kept {
  name: string;
  role: Role;
  team: string | null;
  disabled: boolean;
}

export interface UserMade extends User {
  password: string | null;
}

export interface Token extends Kept {
  name: string;
  prefix: string;
  role: Role;
  team: string | null;
  expires_at: string | null;
  created_by: string;
}

export interface TokenMade extends Token {
  token: string;
}

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

export interface Percentiles {
  p50: number | null;
  p95: number | null;
  p99: number | null;
  count: number;
}

export interface RouteTelemetry {
  route: string;
  target: string | null;
  requests: number;
  errors: number;
  ttft_ms: Percentiles | null;
}

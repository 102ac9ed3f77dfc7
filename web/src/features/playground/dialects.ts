/** The dialects of the data plane, as far as one question and its answer need them: request out, text in. */
import type { DialectName } from "@/api/model";

/** One question, whatever the dialect. Numbers that are null are left to route and provider. */
export interface Ask {
  route: string;
  system: string;
  prompt: string;
  temperature: number | null;
  maxTokens: number | null;
  stream: boolean;
}

export interface HttpAsk {
  method: string;
  path: string;
  body: string;
}

export interface Wire {
  method: string;
  path: string;
  body: string | undefined;
}

/** Dialects of models; `http` routes take any request and give any answer. */
export type ModelDialect = Exclude<DialectName, "http">;

interface Speech {
  label: string;
  path: (ask: Ask) => string;
  body: (ask: Ask) => object;
  /** The text that one event of a stream, or a whole answer, adds. */
  text: (event: unknown) => string;
}

const given = <Name extends string>(name: Name, value: unknown): object => (value === null || value === "" ? {} : { [name]: value });

const messages = ({ system, prompt }: Ask): object[] => [...(system ? [{ role: "system", content: system }] : []), { role: "user", content: prompt }];

/** Follows names and numbers into what came over the wire; "" where there is no text at the end. */
function dig(value: unknown, ...way: (string | number)[]): string {
  let at = value;
  for (const step of way) {
    if (typeof at !== "object" || at === null) return "";
    at = (at as Record<string | number, unknown>)[step];
  }
  return typeof at === "string" ? at : "";
}

const openaiText = (event: unknown): string => dig(event, "choices", 0, "delta", "content") || dig(event, "choices", 0, "message", "content");

const openaiBody = (ask: Ask): object => ({
  model: ask.route,
  messages: messages(ask),
  ...given("temperature", ask.temperature),
  ...given("max_tokens", ask.maxTokens),
  ...(ask.stream ? { stream: true } : {}),
});

/** What Anthropic's API asks for, and a question may leave open. */
export const ANTHROPIC_MAX_TOKENS = 1024;

export const SPEECH: Readonly<Record<ModelDialect, Speech>> = {
  openai: { label: "OpenAI", path: () => "/openai/v1/chat/completions", body: openaiBody, text: openaiText },
  mistral: { label: "Mistral", path: () => "/mistral/v1/chat/completions", body: openaiBody, text: openaiText },
  anthropic: {
    label: "Anthropic",
    path: () => "/anthropic/v1/messages",
    body: (ask) => ({
      model: ask.route,
      max_tokens: ask.maxTokens ?? ANTHROPIC_MAX_TOKENS,
      ...given("system", ask.system),
      messages: [{ role: "user", content: ask.prompt }],
      ...given("temperature", ask.temperature),
      ...(ask.stream ? { stream: true } : {}),
    }),
    text: (event) => dig(event, "delta", "text") || dig(event, "content", 0, "text"),
  },
  gemini: {
    label: "Gemini",
    path: ({ route, stream }) => `/gemini/v1beta/models/${encodeURIComponent(route)}:${stream ? "streamGenerateContent?alt=sse" : "generateContent"}`,
    body: (ask) => ({
      ...(ask.system ? { systemInstruction: { parts: [{ text: ask.system }] } } : {}),
      contents: [{ role: "user", parts: [{ text: ask.prompt }] }],
      ...(ask.temperature === null && ask.maxTokens === null
        ? {}
        : { generationConfig: { ...given("temperature", ask.temperature), ...given("maxOutputTokens", ask.maxTokens) } }),
    }),
    text: (event) => dig(event, "candidates", 0, "content", "parts", 0, "text"),
  },
  ollama: {
    label: "Ollama",
    path: () => "/ollama/api/chat",
    body: (ask) => ({
      model: ask.route,
      messages: messages(ask),
      stream: ask.stream, // Ollama streams where nothing is said
      ...(ask.temperature === null && ask.maxTokens === null ? {} : { options: { ...given("temperature", ask.temperature), ...given("num_predict", ask.maxTokens) } }),
    }),
    text: (event) => dig(event, "message", "content"),
  },
};

export const wireOf = (dialect: ModelDialect, ask: Ask): Wire => ({ method: "POST", path: SPEECH[dialect].path(ask), body: JSON.stringify(SPEECH[dialect].body(ask)) });

export const httpWireOf = ({ method, path, body }: HttpAsk): Wire => ({ method, path, body: method === "GET" || body === "" ? undefined : body });

/** What an error says in whichever dialect; the body itself where it is in none. */
export function refusalOf(body: string): string {
  try {
    const told: unknown = JSON.parse(body);
    const inner = Array.isArray(told) ? told[0] : told; // Gemini's streams are arrays
    return dig(inner, "error", "message") || dig(inner, "detail") || dig(inner, "message") || dig(inner, "error") || body;
  } catch {
    return body;
  }
}

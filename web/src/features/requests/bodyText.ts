/** Reading recorded bodies: JSON as a value, and what the events of a stream say when their pieces are joined. */

export type Json = null | boolean | number | string | readonly Json[] | { readonly [name: string]: Json };

/** The value that a JSON text stands for; undefined where it is none, or was cut. */
export function parsed(text: string): Json | undefined {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}

/** The members in which dialects put the next piece of what the model says, from the event's top. */
const PIECES: readonly (readonly string[])[] = [
  ["choices", "delta", "content"], // OpenAI, Mistral
  ["choices", "delta", "reasoning_content"],
  ["choices", "delta", "tool_calls", "function", "arguments"],
  ["choices", "text"],
  ["delta"], // OpenAI's responses
  ["delta", "text"], // Anthropic
  ["delta", "thinking"],
  ["delta", "partial_json"],
  ["candidates", "content", "parts", "text"], // Gemini
  ["message", "content"], // Ollama
  ["response"],
];

/** What a stream says, its pieces joined. Lines are server-sent events or JSON. */
export function spoken(text: string): string {
  return text
    .split(/\r\n|\r|\n/)
    .map((line) => parsed(line.startsWith("data:") ? line.slice(5) : line))
    .map((event) => (event === undefined ? "" : PIECES.map((path) => at(event, path)).join("")))
    .join("");
}

function at(value: Json | undefined, path: readonly string[]): string {
  if (Array.isArray(value)) return (value as readonly Json[]).map((each) => at(each, path)).join("");
  const [name, ...rest] = path;
  if (name === undefined) return typeof value === "string" ? value : "";
  if (typeof value !== "object" || value === null) return "";
  return at((value as { readonly [name: string]: Json })[name], rest);
}

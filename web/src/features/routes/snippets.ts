/** How to call a route, in the words of the SDKs that callers already use. */

export const CALLS = ["curl", "OpenAI", "Anthropic", "Gemini", "Ollama"] as const;
export type Call = (typeof CALLS)[number];

export function callOf(call: Call, route: string): string {
  const origin = window.location.origin;
  const model = JSON.stringify(route);
  switch (call) {
    case "curl":
      return `curl ${origin}/v1/chat/completions \\
  -H "Authorization: Bearer $SLUICEGATE_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{"model": ${model}, "messages": [{"role": "user", "content": "Hello"}]}'`;
    case "OpenAI":
      return `from openai import OpenAI

client = OpenAI(base_url="${origin}/v1", api_key=SLUICEGATE_KEY)
client.chat.completions.create(
    model=${model},
    messages=[{"role": "user", "content": "Hello"}],
)`;
    case "Anthropic":
      return `from anthropic import Anthropic

client = Anthropic(base_url="${origin}", api_key=SLUICEGATE_KEY)
client.messages.create(
    model=${model},
    max_tokens=256,
    messages=[{"role": "user", "content": "Hello"}],
)`;
    case "Gemini":
      return `from google import genai

client = genai.Client(api_key=SLUICEGATE_KEY, http_options={"base_url": "${origin}"})
client.models.generate_content(model=${model}, contents="Hello")`;
    case "Ollama":
      return `from ollama import Client

client = Client(host="${origin}", headers={"Authorization": f"Bearer {SLUICEGATE_KEY}"})
client.chat(
    model=${model},
    messages=[{"role": "user", "content": "Hello"}],
)`;
  }
}

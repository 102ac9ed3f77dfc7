/** The same call from a program: curl, and the dialect's own SDK for Python and Node. */
import type { Ask, ModelDialect, Wire } from "./dialects";
import { ANTHROPIC_MAX_TOKENS } from "./dialects";

export const LANGUAGES = ["curl", "Python", "Node"] as const;
export type Language = (typeof LANGUAGES)[number];

/** Within single quotes of a shell. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

export function curlOf(origin: string, { method, path, body }: Wire): string {
  const lines = [`curl ${method === "GET" ? "" : `-X ${method} `}${quoted(origin + path)}`, `-H "Authorization: Bearer $SLUICEGATE_KEY"`];
  if (body !== undefined) lines.push(`-H 'Content-Type: application/json'`, `-d ${quoted(body)}`);
  return lines.join(" \\\n  ");
}

/** Python's words for JSON's. */
function python(value: unknown): string {
  if (value === true) return "True";
  if (value === false) return "False";
  if (value === null) return "None";
  if (Array.isArray(value)) return `[${value.map(python).join(", ")}]`;
  if (typeof value === "object") return `{${Object.entries(value as object).map(([name, each]) => `${JSON.stringify(name)}: ${python(each)}`).join(", ")}}`;
  return JSON.stringify(value);
}

const args = (fields: object): string => Object.entries(fields).map(([name, value]) => `    ${name}=${python(value)},\n`).join("");
const fields = (object: object): string => Object.entries(object).map(([name, value]) => `  ${name}: ${JSON.stringify(value)},\n`).join("");
const set = (all: Record<string, unknown>): object => Object.fromEntries(Object.entries(all).filter(([, value]) => value !== null && value !== "" && value !== false));

const chat = (ask: Ask): object => [...(ask.system ? [{ role: "system", content: ask.system }] : []), { role: "user", content: ask.prompt }];

export function pythonOf(dialect: ModelDialect, origin: string, ask: Ask): string {
  const key = `os.environ["SLUICEGATE_KEY"]`;
  switch (dialect) {
    case "openai": {
      const call = args(set({ model: ask.route, messages: chat(ask), temperature: ask.temperature, max_tokens: ask.maxTokens, stream: ask.stream }));
      const shown = ask.stream ? `for chunk in answer:\n    if chunk.choices:\n        print(chunk.choices[0].delta.content or "", end="", flush=True)` : "print(answer.choices[0].message.content)";
      return `import os\nfrom openai import OpenAI\n\nclient = OpenAI(base_url="${origin}/openai/v1", api_key=${key})\nanswer = client.chat.completions.create(\n${call})\n${shown}`;
    }
    case "mistral": {
      const call = args(set({ model: ask.route, messages: chat(ask), temperature: ask.temperature, max_tokens: ask.maxTokens }));
      const shown = ask.stream ? `for event in answer:\n    print(event.data.choices[0].delta.content or "", end="", flush=True)` : "print(answer.choices[0].message.content)";
      return `import os\nfrom mistralai.client import Mistral\n\nclient = Mistral(server_url="${origin}/mistral", api_key=${key})\nanswer = client.chat.${ask.stream ? "stream" : "complete"}(\n${call})\n${shown}`;
    }
    case "anthropic": {
      const more = ask.temperature === null ? {} : { extra_body: { temperature: ask.temperature } }; // its newer models have none
      const call = args({ ...set({ model: ask.route, max_tokens: ask.maxTokens ?? ANTHROPIC_MAX_TOKENS, system: ask.system, messages: [{ role: "user", content: ask.prompt }] }), ...more });
      const made = `import os\nfrom anthropic import Anthropic\n\nclient = Anthropic(base_url="${origin}/anthropic", api_key=${key})\n`;
      if (!ask.stream) return `${made}answer = client.messages.create(\n${call})\nprint(answer.content[0].text)`;
      return `${made}with client.messages.stream(\n${call}) as answer:\n    for text in answer.text_stream:\n        print(text, end="", flush=True)`;
    }
    case "gemini": {
      const config = set({ system_instruction: ask.system, temperature: ask.temperature, max_output_tokens: ask.maxTokens });
      const call = args({ model: ask.route, contents: ask.prompt, ...(Object.keys(config).length ? { config } : {}) });
      const shown = ask.stream ? `for chunk in answer:\n    print(chunk.text or "", end="", flush=True)` : "print(answer.text)";
      return `import os\nfrom google import genai\n\nclient = genai.Client(api_key=${key}, http_options={"base_url": "${origin}/gemini"})\nanswer = client.models.generate_content${ask.stream ? "_stream" : ""}(\n${call})\n${shown}`;
    }
    case "ollama": {
      const options = set({ temperature: ask.temperature, num_predict: ask.maxTokens });
      const call = args({ model: ask.route, messages: chat(ask), ...set({ stream: ask.stream }), ...(Object.keys(options).length ? { options } : {}) });
      const shown = ask.stream ? `for part in answer:\n    print(part.message.content or "", end="", flush=True)` : "print(answer.message.content)";
      return `import os\nfrom ollama import Client\n\nclient = Client(host="${origin}/ollama", headers={"Authorization": "Bearer " + ${key}})\nanswer = client.chat(\n${call})\n${shown}`;
    }
  }
}

export function nodeOf(dialect: ModelDialect, origin: string, ask: Ask): string {
  const key = "process.env.SLUICEGATE_KEY";
  switch (dialect) {
    case "openai": {
      const call = fields(set({ model: ask.route, messages: chat(ask), temperature: ask.temperature, max_tokens: ask.maxTokens, stream: ask.stream }));
      const shown = ask.stream ? `for await (const chunk of answer) process.stdout.write(chunk.choices[0]?.delta.content ?? "");` : "console.log(answer.choices[0].message.content);";
      return `import OpenAI from "openai";\n\nconst client = new OpenAI({ baseURL: "${origin}/openai/v1", apiKey: ${key} });\nconst answer = await client.chat.completions.create({\n${call}});\n${shown}`;
    }
    case "mistral": {
      const call = fields(set({ model: ask.route, messages: chat(ask), temperature: ask.temperature, maxTokens: ask.maxTokens }));
      const shown = ask.stream ? `for await (const event of answer) process.stdout.write(event.data.choices[0]?.delta.content ?? "");` : "console.log(answer.choices[0].message.content);";
      return `import { Mistral } from "@mistralai/mistralai";\n\nconst client = new Mistral({ serverURL: "${origin}/mistral", apiKey: ${key} });\nconst answer = await client.chat.${ask.stream ? "stream" : "complete"}({\n${call}});\n${shown}`;
    }
    case "anthropic": {
      const call = fields(set({ model: ask.route, max_tokens: ask.maxTokens ?? ANTHROPIC_MAX_TOKENS, system: ask.system, messages: [{ role: "user", content: ask.prompt }], temperature: ask.temperature }));
      const made = `import Anthropic from "@anthropic-ai/sdk";\n\nconst client = new Anthropic({ baseURL: "${origin}/anthropic", apiKey: ${key} });\n`;
      if (!ask.stream) return `${made}const answer = await client.messages.create({\n${call}});\nconsole.log(answer.content[0].text);`;
      return `${made}const answer = client.messages.stream({\n${call}});\nanswer.on("text", (text) => process.stdout.write(text));\nawait answer.done();`;
    }
    case "gemini": {
      const config = set({ systemInstruction: ask.system, temperature: ask.temperature, maxOutputTokens: ask.maxTokens });
      const call = fields({ model: ask.route, contents: ask.prompt, ...(Object.keys(config).length ? { config } : {}) });
      const shown = ask.stream ? `for await (const chunk of answer) process.stdout.write(chunk.text ?? "");` : "console.log(answer.text);";
      return `import { GoogleGenAI } from "@google/genai";\n\nconst client = new GoogleGenAI({ apiKey: ${key}, httpOptions: { baseUrl: "${origin}/gemini" } });\nconst answer = await client.models.generateContent${ask.stream ? "Stream" : ""}({\n${call}});\n${shown}`;
    }
    case "ollama": {
      const options = set({ temperature: ask.temperature, num_predict: ask.maxTokens });
      const call = fields({ model: ask.route, messages: chat(ask), ...set({ stream: ask.stream }), ...(Object.keys(options).length ? { options } : {}) });
      const shown = ask.stream ? `for await (const part of answer) process.stdout.write(part.message.content);` : "console.log(answer.message.content);";
      return `import { Ollama } from "ollama";\n\nconst client = new Ollama({ host: "${origin}/ollama", headers: { Authorization: \`Bearer \${${key}}\` } });\nconst answer = await client.chat({\n${call}});\n${shown}`;
    }
  }
}

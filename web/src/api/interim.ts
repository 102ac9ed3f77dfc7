/** Ledger and usage until the OpenAPI document has them. */
import { ApiProblem } from "./problem";

export async function read<Answer>(path: string, query: Record<string, string | number | undefined> = {}): Promise<Answer> {
  const url = new URL(path, window.location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
  const answer = await fetch(url);
  const document: unknown = await answer.json().catch(() => undefined);
  if (!answer.ok) throw new ApiProblem(answer.status, document);
  return document as Answer;
}

export interface Listed<Item> {
  items: Item[];
  next_cursor: string | null;
}

import { queryOptions } from "@tanstack/react-query";
import { read, send } from "@/api/client";
import type { Listed, Role, Token, TokenMade } from "@/api/model";

export const tokensQuery = queryOptions({
  queryKey: ["tokens"],
  queryFn: () => read<Listed<Token>>("/api/v1/tokens", { limit: 1000 }),
});

export const makeToken = (token: { name: string; role: Role; team?: string; expires_at?: string }): Promise<TokenMade> => send("POST", "/api/v1/tokens", token);
export const revokeToken = (id: number): Promise<void> => send("DELETE", `/api/v1/tokens/${id}`);

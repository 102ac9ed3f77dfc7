import { queryOptions } from "@tanstack/react-query";
import { read } from "@/api/client";
import type { Listed, Provider } from "@/api/model";

export const providersQuery = queryOptions({
  queryKey: ["providers"],
  queryFn: () => read<Listed<Provider>>("/api/v1/providers", { limit: 1000 }),
});

export const providerQuery = (name: string) =>
  queryOptions({ queryKey: ["providers", name], queryFn: () => read<Provider>(`/api/v1/providers/${encodeURIComponent(name)}`) });

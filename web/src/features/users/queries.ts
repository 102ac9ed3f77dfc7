import { queryOptions } from "@tanstack/react-query";
import { read, send } from "@/api/client";
import type { Listed, Role, User, UserMade } from "@/api/model";

export const usersQuery = queryOptions({
  queryKey: ["users"],
  queryFn: () => read<Listed<User>>("/api/v1/users", { limit: 1000 }),
});

export const makeUser = (user: { name: string; password?: string; role: Role; team?: string }): Promise<UserMade> => send("POST", "/api/v1/users", user);
export const removeUser = (id: number): Promise<void> => send("DELETE", `/api/v1/users/${id}`);

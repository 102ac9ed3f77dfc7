/** Whether a page's form for something new is open: in the address as `?add=true`, so that the palette and links open it too. */
import { useNavigate, useSearch } from "@tanstack/react-router";
import { useCallback } from "react";

export function useAdding(): [boolean, (open: boolean) => void] {
  const search: { add?: true } = useSearch({ strict: false });
  const navigate = useNavigate();
  const turn = useCallback((open: boolean) => void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, add: open ? (true as const) : undefined }), replace: true }), [navigate]);
  return [search.add === true, turn];
}

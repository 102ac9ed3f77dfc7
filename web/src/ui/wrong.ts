/** What the server has found wrong with single fields of the form around: at the field it stands beside what has to be corrected. */
import { createContext, useContext } from "react";
import type { FieldProblem } from "@/api/problem";
import { plain, sentence } from "@/units/words";

export const Wrong = createContext<readonly FieldProblem[]>([]);

/** For an input's `error`: the first that is wrong with one of these fields (`tls.ca`), or with a part of it (`tags.0`). */
export function useWrong(): (...fields: readonly string[]) => string | undefined {
  const problems = useContext(Wrong);
  return (...fields) => {
    const found = problems.find(({ field }) => fields.some((each) => field === each || field.startsWith(`${each}.`)));
    return found && plain(sentence(found.remedy ? `${found.problem}; ${found.remedy}` : found.problem));
  };
}

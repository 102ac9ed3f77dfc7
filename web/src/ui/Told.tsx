/** Words of the API: English in every language of the console, and marked so (WCAG 2.2, 3.1.2). */
import type { ReactNode } from "react";

export const Told = ({ children }: { children: ReactNode }) => <span lang="en">{children}</span>;

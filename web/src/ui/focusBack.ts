/** What is laid over a page and closed gives the focus back to where it was: to the button, or to the page if that has gone. */
import { useEffect, useState } from "react";

export function useFocusBack(): void {
  const [before] = useState(() => document.activeElement);
  useEffect(
    () => () => {
      // Not at once: what had the focus is still being taken away.
      window.setTimeout(() => {
        if (document.activeElement !== document.body) return;
        const there = before instanceof HTMLElement && before.isConnected && before !== document.body ? before : document.getElementById("page");
        there?.focus({ preventScroll: true });
      });
    },
    [before],
  );
}

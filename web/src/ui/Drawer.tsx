/** The panel beside a list that shows one of its items. It has a URL of its own; Esc goes back to the list. */
import { t } from "@lingui/core/macro";
import { ActionIcon } from "@mantine/core";
import { IconX } from "@tabler/icons-react";
import { useEffect, useLayoutEffect, useRef, type ReactNode } from "react";
import styles from "./Drawer.module.css";

interface DrawerProps {
  title: ReactNode;
  label: string;
  close: () => void;
  children: ReactNode;
}

/** Who opens a drawer with Enter goes on in it; with the mouse or the arrow keys the list keeps the focus. */
let enteredMs = -Infinity;
/** Its code may have to be loaded first; what else Enter opened meanwhile was no drawer. */
const ARRIVES_WITHIN_MS = 3000;

export function enterDrawer(): void {
  const open = document.querySelector<HTMLElement>(`.${styles.drawer}`);
  if (open) open.focus();
  else enteredMs = performance.now();
}

export function Drawer({ title, label, close, children }: DrawerProps) {
  const drawer = useRef<HTMLElement>(null);
  useLayoutEffect(() => {
    const element = drawer.current;
    const before = document.activeElement;
    if (performance.now() - enteredMs < ARRIVES_WITHIN_MS) element?.focus();
    enteredMs = -Infinity;
    return () => {
      // Back to where one came from: the row, if it is still there.
      if (before instanceof HTMLElement && element?.contains(document.activeElement)) before.focus();
    };
  }, []);
  useEffect(() => {
    // Capturing, and before any dialog's own listener: what lies over the drawer is still there to be seen, and takes Esc first.
    const onKey = (event: KeyboardEvent): void => {
      if (event.key === "Escape" && !document.querySelector("[role=dialog], [role=menu], [role=listbox]")) close();
    };
    window.addEventListener("keydown", onKey, { capture: true });
    return () => window.removeEventListener("keydown", onKey, { capture: true });
  }, [close]);
  return (
    <aside className={styles.drawer} aria-label={label} ref={drawer} tabIndex={-1}>
      <header className={styles.head}>
        <h2 className={styles.title}>{title}</h2>
        <ActionIcon variant="subtle" color="gray" onClick={close} aria-label={t`Close (Esc)`}>
          <IconX size={18} />
        </ActionIcon>
      </header>
      <div className={styles.body}>{children}</div>
    </aside>
  );
}

/** A list of facts: name left, figure right. */
export function Facts({ facts }: { facts: readonly (readonly [string, ReactNode])[] }) {
  return (
    <dl className={styles.facts}>
      {facts.map(([name, fact]) => (
        <div key={name}>
          <dt>{name}</dt>
          <dd>{fact}</dd>
        </div>
      ))}
    </dl>
  );
}

export function Part({ title, children }: { title: string; children: ReactNode }) {
  return (
    <section className={styles.part}>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

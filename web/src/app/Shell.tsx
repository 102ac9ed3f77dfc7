/** The frame: side navigation, top bar, the page, the command palette. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { useHotkeys } from "@mantine/hooks";
import { lazy, Suspense, useCallback, useEffect, useRef, useState } from "react";
import { LiveFeed } from "@/api/live";
import { pendingQuery } from "@/features/access/queries";
import { DraftBar } from "@/features/publish/DraftBar";
import { sessionQuery, useMay } from "@/api/session";
import { entriesFor, GROUPS } from "./entries";
import styles from "./Shell.module.css";
import { Presence } from "./Presence";
import { TopBar } from "./TopBar";
import { Unloaded } from "./Unloaded";

// The palette and what it lists are loaded when it is first asked for, not with the first page.
const CommandPalette = lazy(() => import("./CommandPalette"));

/** Until a palette that was closed has given the focus back. */
const SETTLED_MS = 250;

export function Shell() {
  const due = useQuery(sessionQuery).data?.second_factor_due ?? false;
  const [asked, setAsked] = useState(0);
  const search = useCallback(() => setAsked((times) => times + 1), []);
  useHotkeys([
    ["mod+K", search],
    ["/", search],
  ]);
  const [navOpen, setNavOpen] = useState(false);
  const path = useLocation({ select: (location) => location.pathname });
  useEffect(() => setNavOpen(false), [path]);
  const main = useRef<HTMLElement>(null);
  const isFirst = useRef(true);
  useEffect(() => {
    if (isFirst.current) {
      isFirst.current = false;
      return undefined;
    }
    // What had the focus has gone with the page before: the keyboard goes on where this one begins.
    const timer = window.setTimeout(() => {
      if (document.activeElement === document.body) main.current?.focus({ preventScroll: true });
    }, SETTLED_MS);
    return () => window.clearTimeout(timer);
  }, [path]);
  return (
    <LiveFeed on={!due}>
      <div className={styles.shell}>
        <a className={styles.skip} href="#page">
          <Trans>Skip to the page</Trans>
        </a>
        <SideNav open={navOpen} />
        {navOpen ? <div className={styles.veil} onClick={() => setNavOpen(false)} aria-hidden /> : null}
        <TopBar navOpen={navOpen} turnNav={() => setNavOpen(!navOpen)} search={search} />
        <div className={styles.notice}>
          <Unloaded />
          <DraftBar />
        </div>
        <main id="page" className={styles.main} tabIndex={-1} ref={main}>
          <Outlet />
        </main>
        {asked > 0 ? (
          <Suspense>
            <CommandPalette asked={asked} />
          </Suspense>
        ) : null}
        <Presence />
      </div>
    </LiveFeed>
  );
}

function SideNav({ open }: { open: boolean }) {
  const may = useMay();
  const entries = entriesFor(may, useQuery(sessionQuery).data?.role);
  const here = useLocation({ select: (location) => location.pathname });
  return (
    <nav className={styles.nav} data-open={open} aria-label={t`Pages`} id="side-nav">
      <Link to="/" className={styles.brand}>
        <img src={`${import.meta.env.BASE_URL}mark.svg`} width={24} height={24} alt="" />
        Sluicegate
      </Link>
      {Object.entries(GROUPS).map(([group, name]) => {
        const shown = entries.filter((entry) => entry.group === group);
        if (shown.length === 0) return null;
        return (
          <div key={group} className={styles.group}>
            <div className={styles.groupName}>{name}</div>
            {shown.map(({ to, also, label, icon: Icon }) => (
              <Link
                key={to}
                to={to}
                className={styles.entry}
                activeOptions={{ exact: to === "/", includeSearch: false }}
                {...(also && `${here}/`.startsWith(`${also}/`) ? { "aria-current": "page" as const } : {})}
              >
                <Icon size={17} stroke={1.7} aria-hidden />
                {label}
                {to === "/access-requests" && may("access:decide") ? <ToDecide /> : null}
              </Link>
            ))}
          </div>
        );
      })}
    </nav>
  );
}

/** How many requests for access await a decision of the reader's. */
function ToDecide() {
  const pending = useQuery(pendingQuery).data;
  if (!pending) return null;
  return (
    <span className={styles.count} title={plural(pending, { one: "# request to decide", other: "# requests to decide" })}>
      {pending}
      <span className="unseen">{t`to decide`}</span>
    </span>
  );
}

/** What holds for every page: search, time range, the live feed, health, colours, who is signed in. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, Menu, useComputedColorScheme, useMantineColorScheme } from "@mantine/core";
import { IconChevronDown, IconLogout, IconMenu2, IconMoon, IconSearch, IconShieldLock, IconSun, IconUser } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Link, useNavigate } from "@tanstack/react-router";
import { useFeed } from "@/api/live";
import { sessionQuery, signOut, useMay } from "@/api/session";
import { healthQuery } from "@/features/installation/queries";
import { byWorst, StateMark } from "@/features/installation/words";
import { useNow } from "@/ui/now";
import { age } from "@/units/time";
import { sentence } from "@/units/words";
import { RANGES, useRange, type RangeName } from "./range";
import styles from "./Shell.module.css";

const COMMAND = /Mac|iPhone|iPad/.test(navigator.userAgent) ? "⌘K" : "Ctrl K";

interface TopBarProps {
  navOpen: boolean;
  turnNav: () => void;
  search: () => void;
}

export function TopBar({ navOpen, turnNav, search }: TopBarProps) {
  return (
    <section className={styles.bar} aria-label={t`Search, time range, account`}>
      <ActionIcon className={styles.menu ?? ""} variant="subtle" color="gray" size="lg" onClick={turnNav} aria-label={t`Pages`} aria-expanded={navOpen} aria-controls="side-nav">
        <IconMenu2 size={20} />
      </ActionIcon>
      <button type="button" className={styles.search} onClick={search}>
        <IconSearch size={15} aria-hidden />
        <span>
          <Trans>Search or go to…</Trans>
        </span>
        <kbd aria-hidden>{COMMAND}</kbd>
      </button>
      <div className={styles.room} />
      <FeedState />
      <HealthState />
      <RangeMenu />
      <SchemeSwitch />
      <UserMenu />
    </section>
  );
}

function FeedState() {
  const feed = useFeed();
  const nowMs = useNow();
  const word = feed.state === "cut" ? t`Feed cut` : feed.state === "connecting" ? t`Connecting` : feed.newestMs ? age(feed.newestMs, nowMs) : t`Live`;
  return (
    <span className={styles.feed} data-state={feed.state} role="status" aria-live="off" title={feed.state === "cut" ? t`The live feed is cut; reconnecting. Figures are as of their last load` : t`Age of the newest event that this page has received`}>
      <span className={styles.dot} aria-hidden />
      <span>{feed.state === "live" && feed.newestMs ? t`Live · ${word}` : word}</span>
    </span>
  );
}

const HEALTH_EVERY_MS = 30_000;

/** How the worst part of the gateway stands, and the way to what is wrong. */
function HealthState() {
  const may = useMay()("configuration:read");
  const parts = useQuery({ ...healthQuery, enabled: may, refetchInterval: HEALTH_EVERY_MS }).data?.parts;
  const worst = parts && byWorst(parts, (part) => part.state)[0];
  if (!worst) return null;
  const well = worst.state === "ok" || worst.state === "info";
  const title = well ? t`All parts of the gateway are well` : `${sentence(worst.name)}: ${worst.detail}`;
  return (
    <Link to="/health" className={styles.health} data-well={well} title={title}>
      <span className="unseen">{t`Health:`} </span>
      <StateMark state={well ? "ok" : worst.state} />
    </Link>
  );
}

function RangeMenu() {
  const range = useRange();
  const navigate = useNavigate();
  const choose = (chosen: RangeName): void => {
    void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, range: chosen }), replace: true });
  };
  return (
    <Menu shadow="md" position="bottom-end" transitionProps={{ duration: 120 }}>
      <Menu.Target>
        <Button variant="default" size="compact-md" rightSection={<IconChevronDown size={14} />} aria-label={t`Time range: ${RANGES[range].label}`}>
          {RANGES[range].label}
        </Button>
      </Menu.Target>
      <Menu.Dropdown>
        {Object.entries(RANGES).map(([name, { label }]) => (
          <Menu.Item key={name} onClick={() => choose(name as RangeName)} aria-current={name === range || undefined}>
            {label}
          </Menu.Item>
        ))}
      </Menu.Dropdown>
    </Menu>
  );
}

function SchemeSwitch() {
  // Mantine would stop transitions by a <style> element, which the CSP refuses.
  const { setColorScheme } = useMantineColorScheme({ keepTransitions: true });
  const scheme = useComputedColorScheme("light");
  return (
    <ActionIcon variant="subtle" color="gray" size="lg" onClick={() => setColorScheme(scheme === "dark" ? "light" : "dark")} aria-label={scheme === "dark" ? t`Use light colours` : t`Use dark colours`}>
      {scheme === "dark" ? <IconSun size={18} stroke={1.7} /> : <IconMoon size={18} stroke={1.7} />}
    </ActionIcon>
  );
}

function UserMenu() {
  const session = useQuery(sessionQuery).data;
  const queries = useQueryClient();
  const navigate = useNavigate();
  const leave = async (): Promise<void> => {
    const elsewhere = await signOut(queries);
    if (elsewhere === null) await navigate({ to: "/login" });
    else window.location.assign(elsewhere);
  };
  return (
    <Menu shadow="md" position="bottom-end" transitionProps={{ duration: 120 }}>
      <Menu.Target>
        <ActionIcon variant="subtle" color="gray" size="lg" aria-label={t`Signed in as ${session?.username ?? "…"}`}>
          <IconUser size={18} stroke={1.7} />
        </ActionIcon>
      </Menu.Target>
      <Menu.Dropdown>
        <Menu.Label>
          {session?.username} · {session?.team ? t`${session.role} of ${session.team}` : session?.role}
        </Menu.Label>
        <Menu.Item leftSection={<IconShieldLock size={15} />} onClick={() => void navigate({ to: "/account" })}>
          <Trans>Account</Trans>
        </Menu.Item>
        <Menu.Item leftSection={<IconLogout size={15} />} onClick={() => void leave()}>
          <Trans>Sign out</Trans>
        </Menu.Item>
      </Menu.Dropdown>
    </Menu>
  );
}

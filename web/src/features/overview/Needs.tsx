/** What needs you: each thing that waits for somebody, in plain words, with the way to it. */
import { plural, t } from "@lingui/core/macro";
import { IconChevronRight, IconCircleCheck } from "@tabler/icons-react";
import { Link } from "@tanstack/react-router";
import type { ReactNode } from "react";
import type { Need } from "@/api/model";
import { Mark, type Tone } from "@/ui/Mark";
import { Section } from "@/ui/Page";
import { plain, sentence } from "@/units/words";
import styles from "./overview.module.css";

export function Needs({ needs }: { needs: readonly Need[] }) {
  return (
    <Section title={t`What needs you`}>
      {needs.length === 0 ? (
        <p className={styles.well}>
          <IconCircleCheck size={18} aria-hidden /> {t`Nothing waits for a decision.`}
        </p>
      ) : (
        <ul className={styles.needs} aria-label={t`What needs you`}>
          {needs.map((need) => (
            <li key={`${need.need} ${need.subject ?? ""}`}>
              <Told need={need} />
            </li>
          ))}
        </ul>
      )}
    </Section>
  );
}

function Told({ need }: { need: Need }) {
  const { tone, word, text } = told(need);
  return (
    <Way need={need}>
      <Mark tone={tone}>{word}</Mark>
      <span className={styles.needText}>
        {text}
        {need.why && need.need !== "database" ? <small>{plain(sentence(need.why))}</small> : null}
      </span>
      <IconChevronRight size={16} aria-hidden />
    </Way>
  );
}

function told({ need, subject, count, why }: Need): { tone: Tone; word: string; text: string } {
  const name = subject ?? "";
  switch (need) {
    case "access_requests":
      return { tone: "info", word: t`Asked`, text: plural(count ?? 0, { one: "# access request waits for a decision", other: "# access requests wait for a decision" }) };
    case "findings":
      return { tone: "warn", word: t`Undecided`, text: plural(count ?? 0, { one: "# process or client goes past the gateway", other: "# processes or clients go past the gateway" }) };
    case "limit":
      return (count ?? 0) >= 100
        ? { tone: "bad", word: t`Used up`, text: t`Limit ${name} is used up: what needs more is refused` }
        : { tone: "warn", word: t`${count ?? 0} % gone`, text: t`Limit ${name} comes to its end before its time` };
    case "unpriced":
      return { tone: "warn", word: t`No price`, text: plural(count ?? 0, { one: `${name} answered # request that nobody knows the price of`, other: `${name} answered # requests that nobody knows the price of` }) };
    case "credential":
      return { tone: "bad", word: t`Set aside`, text: t`The provider refuses or limits the credential ${name}` };
    case "target":
      return { tone: "bad", word: t`Cooling`, text: t`${name} failed too often and gets no request but a trial` };
    case "provider":
      return { tone: "bad", word: t`Unhealthy`, text: t`The check of provider ${name} fails` };
    case "rule":
      return { tone: "warn", word: t`Not armed`, text: t`Interception rule ${name} captures nothing` };
    case "database":
      return { tone: "bad", word: t`Database`, text: plain(sentence(why ?? "")) };
  }
}

function Way({ need: { need, subject }, children }: { need: Need; children: ReactNode }) {
  const name = subject ?? "";
  switch (need) {
    case "findings":
      return <Link className={styles.need} to="/discoveries" search={{ state: "new" }}>{children}</Link>;
    case "limit":
      return <Link className={styles.need} to="/limits">{children}</Link>;
    case "unpriced":
      return <Link className={styles.need} to="/requests" search={{ target: name }}>{children}</Link>;
    case "credential":
    case "target":
      return <Link className={styles.need} to="/providers/$name" params={{ name: name.split("/")[0] ?? "" }}>{children}</Link>;
    case "provider":
      return <Link className={styles.need} to="/providers/$name" params={{ name }}>{children}</Link>;
    case "access_requests":
      return <Link className={styles.need} to="/access-requests">{children}</Link>;
    case "rule":
      return <Link className={styles.need} to="/interception">{children}</Link>;
    case "database":
      return <div className={styles.need}>{children}</div>;
  }
}

/** The call that is set up on the page, as a program makes it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { SegmentedControl } from "@mantine/core";
import { useState } from "react";
import { Snippet } from "@/ui/Copy";
import { Section } from "@/ui/Page";
import type { Ask, ModelDialect, Wire } from "./dialects";
import styles from "./playground.module.css";
import { curlOf, LANGUAGES, nodeOf, pythonOf, type Language } from "./snippets";

interface CodeProps {
  dialect: ModelDialect | null;
  ask: Ask;
  wire: Wire;
  /** The host that the route claims, where it claims one. */
  host: string | null;
}

export function Code({ dialect, ask, wire, host }: CodeProps) {
  const [language, setLanguage] = useState<Language>("curl");
  const origin = host === null ? window.location.origin : `${window.location.protocol}//${host}`;
  const shown = dialect === null ? "curl" : language;
  const text = shown === "curl" || dialect === null ? curlOf(origin, wire) : shown === "Python" ? pythonOf(dialect, origin, ask) : nodeOf(dialect, origin, ask);
  return (
    <Section
      title={t`The same call as code`}
      aside={dialect === null ? null : <SegmentedControl size="xs" aria-label={t`Language`} data={[...LANGUAGES]} value={shown} onChange={(chosen) => setLanguage(chosen as Language)} />}
    >
      <Snippet text={text} what={t`${shown} code`} />
      <p className={styles.note}>
        <Trans>
          <code>SLUICEGATE_KEY</code> is a key of the app. The target is the route's choice: no key but the playground's can be bound to one.
        </Trans>
      </p>
    </Section>
  );
}

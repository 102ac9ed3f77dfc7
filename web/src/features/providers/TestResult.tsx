/** Asks the provider for real whether it takes the credentials, and says what it said. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlugConnected } from "@tabler/icons-react";
import { useMutation } from "@tanstack/react-query";
import { Problem } from "@/ui/Answer";
import { Ago, Latency } from "@/ui/Figure";
import { Mark, type Tone } from "@/ui/Mark";
import { testProvider, type Tested } from "./queries";
import styles from "./providers.module.css";

type CredentialTested = Tested["credentials"][number];

const VERDICTS: Readonly<Record<CredentialTested["verdict"], { tone: Tone; word: string }>> = {
  accepted: { tone: "ok", word: t`Accepted` },
  unproven: { tone: "info", word: t`Answers, unproven` },
  refused: { tone: "bad", word: t`Refused` },
  limited: { tone: "warn", word: t`Limited for now` },
  failed: { tone: "bad", word: t`No proper answer` },
  unreachable: { tone: "bad", word: t`Not reached` },
};

/** Of models that a target asks for and the list lacks, so many are named. */
const MOST_MODELS = 8;

export function TestForReal({ name, credentials }: { name: string; credentials: number }) {
  const test = useMutation({ mutationFn: () => testProvider(name) });
  return (
    <div className={styles.test}>
      <div>
        <Button size="xs" variant="default" leftSection={<IconPlugConnected size={15} />} loading={test.isPending} onClick={() => test.mutate()}>
          {credentials === 0 ? <Trans>Test the connection</Trans> : plural(credentials, { one: "Test the key for real", other: "Test the keys for real" })}
        </Button>
      </div>
      {test.error ? <Problem error={test.error} /> : null}
      {test.data ? <Result tested={test.data} /> : null}
    </div>
  );
}

function Result({ tested }: { tested: Tested }) {
  const missing = tested.missing_models;
  const named = missing.slice(0, MOST_MODELS).join(", ");
  return (
    <div role="status" className={styles.result}>
      <ul>
        {tested.credentials.map((each) => (
          <li key={each.credential ?? ""}>
            <span className={styles.verdict}>
              {each.credential ? <code>{each.credential}</code> : null}
              <Mark tone={VERDICTS[each.verdict].tone}>{VERDICTS[each.verdict].word}</Mark>
              <span className={styles.took}>
                <Latency ms={each.latency_ms} />
              </span>
            </span>
            <p lang="en">
              {each.reason}
              {each.fix ? `; ${each.fix}` : ""}
            </p>
          </li>
        ))}
      </ul>
      {missing.length > 0 ? (
        <p>
          <Mark tone="warn">{plural(missing.length, { one: "# model that a target asks for is not in its list", other: "# models that targets ask for are not in its list" })}</Mark> <code>{named}</code>
          {missing.length > MOST_MODELS ? " …" : ""}
        </p>
      ) : null}
      <p className={styles.took}>
        <Trans>
          Asked <code>{tested.url}</code> <Ago at={tested.tested_at} />, the way a caller's request goes. Nothing was charged.
        </Trans>
      </p>
    </div>
  );
}

/** Step three: the first call, made from anywhere, shown as it arrives. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, SegmentedControl } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState } from "react";
import { useFeed } from "@/api/live";
import type { LedgerRow } from "@/api/model";
import { makeKey } from "@/features/apps/queries";
import { OutcomeMark } from "@/features/requests/outcome";
import { callOf } from "@/features/routes/snippets";
import { Problem } from "@/ui/Answer";
import { Snippet } from "@/ui/Copy";
import { Count, Latency, Money, Unknown } from "@/ui/Figure";
import { callNow } from "./queries";
import type { Made } from "./RouteStep";
import styles from "./start.module.css";

interface CallStepProps {
  made: Made;
  arrived: LedgerRow | undefined;
  /** What has arrived was answered. */
  well: boolean;
  keyMade: (key: string) => void;
}

export function CallStep({ made, arrived, well, keyMade }: CallStepProps) {
  const [way, setWay] = useState<"curl" | "OpenAI">("curl");
  const feed = useFeed();
  const queries = useQueryClient();
  const another = useMutation({
    mutationFn: () => makeKey({ app: made.app, name: `first-${Date.now().toString(36)}` }),
    onSuccess: async (key) => {
      if (key.key) keyMade(key.key);
      await queries.invalidateQueries({ queryKey: ["keys"] });
    },
  });
  const call = useMutation({ mutationFn: (key: string) => callNow(key, made.route) });
  const key = made.key;
  const before = way === "curl" ? (key ? `export SLUICEGATE_KEY=${key}\n` : "") : `SLUICEGATE_KEY = "${key ?? "…"}"\n`;
  return (
    <div className={styles.form}>
      <SegmentedControl
        size="xs"
        w="max-content"
        aria-label={t`How to call`}
        value={way}
        onChange={(chosen) => setWay(chosen as typeof way)}
        data={[
          { value: "curl", label: "curl" },
          { value: "OpenAI", label: "Python" },
        ]}
      />
      <Snippet text={before + callOf(way, made.route)} what={t`first call`} />
      {key ? (
        <p className={styles.once}>
          <IconAlertTriangle size={15} aria-hidden /> <Trans>The key is shown here and now only: its hash is all that is kept.</Trans>
        </p>
      ) : (
        <p className={styles.hint}>
          <Trans>The key of {made.app} was shown when it was made.</Trans>{" "}
          <Button size="compact-xs" variant="default" loading={another.isPending} onClick={() => another.mutate()}>
            <Trans>Make another key</Trans>
          </Button>
        </p>
      )}
      {another.error ? <Problem error={another.error} /> : null}
      {call.error ? <Problem error={call.error} /> : null}
      {call.data ? <blockquote className={styles.said}>{call.data}</blockquote> : null}
      {arrived ? <Arrived row={arrived} well={well} /> : null}
      {well ? null : (
        <div className={styles.deeds}>
          {key ? (
            <Button loading={call.isPending} onClick={() => call.mutate(key)} data-first>
              {arrived ? <Trans>Call again from here</Trans> : <Trans>Make the call from here</Trans>}
            </Button>
          ) : null}
          <span className={styles.waiting} role="status">
            <i aria-hidden /> {feed.state === "cut" ? t`The live feed is cut: looking every 5 s` : arrived ? t`Waiting for the next call of ${made.app}…` : t`Waiting for the first call of ${made.app}…`}
          </span>
        </div>
      )}
    </div>
  );
}

function Arrived({ row, well }: { row: LedgerRow; well: boolean }) {
  return (
    <div className={styles.arrived} data-well={well || row.outcome === "open"} role="status">
      <span>
        <OutcomeMark row={row} /> {row.error_code && !well ? <code>{row.error_code}</code> : null}
      </span>
      <dl>
        <div>
          <dt>{t`Target`}</dt>
          <dd>
            {row.target ? <code>{row.target}</code> : <Unknown why={t`nothing went upstream`} />}
          </dd>
        </div>
        <div>
          <dt>{t`Tokens`}</dt>
          <dd>
            <Count n={row.input_tokens} unit={t`tokens`} /> + <Count n={row.output_tokens} unit={t`tokens`} />
          </dd>
        </div>
        <div>
          <dt>{t`Cost`}</dt>
          <dd>
            <Money micros={row.cost_usd_micros} />
          </dd>
        </div>
        <div>
          <dt>{t`Latency`}</dt>
          <dd>
            <Latency ms={row.latency_ms} />
          </dd>
        </div>
      </dl>
      <div className={styles.deeds}>
        <Link to="/requests/$id" params={{ id: row.id }}>
          <Trans>Look at it in Traffic</Trans>
        </Link>
        {well && row.cost_usd_micros === null ? (
          <Link to="/prices">
            <Trans>Say what it costs</Trans>
          </Link>
        ) : null}
        <Link to="/flows">
          <Trans>See it flow</Trans>
        </Link>
        <Link to="/">
          <Trans>To the overview</Trans>
        </Link>
      </div>
    </div>
  );
}

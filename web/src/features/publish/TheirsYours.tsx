/** Somebody else has changed the same thing meanwhile: what they have, what you have, and a button for each. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group } from "@mantine/core";
import { Sides } from "@/ui/Sides";
import styles from "./publish.module.css";

interface TheirsYoursProps {
  /** Fields that you have changed, and how they now stand. */
  fields: readonly { field: string; yours: unknown; theirs: unknown }[];
  /** Save yours over it; what they have changed elsewhere stays. */
  keep: () => void;
  /** Begin anew from theirs. */
  take: () => void;
}

export function TheirsYours({ fields, keep, take }: TheirsYoursProps) {
  const different = fields.filter(({ yours, theirs }) => JSON.stringify(yours) !== JSON.stringify(theirs));
  return (
    <div className={styles.theirs} role="alert">
      <p>
        <b>
          <Trans>Somebody else has changed this since you opened it.</Trans>
        </b>{" "}
        {different.length === 0 ? <Trans>What you have changed stands there already.</Trans> : <Trans>Nothing has been saved. Choose for what you have changed; the rest stays as they have it.</Trans>}
      </p>
      {different.map(({ field, yours, theirs }) => (
        <div key={field} role="group" aria-label={field}>
          <code>{field}</code>
          <Sides
            sides={[
              { title: t`Yours`, value: yours },
              { title: t`Theirs`, value: theirs },
            ]}
          />
        </div>
      ))}
      <Group gap="xs">
        <Button size="xs" variant="default" onClick={take}>
          <Trans>Take theirs</Trans>
        </Button>
        <Button size="xs" onClick={keep} disabled={different.length === 0}>
          <Trans>Save yours over it</Trans>
        </Button>
      </Group>
    </div>
  );
}

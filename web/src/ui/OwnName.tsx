/** A name that the reader gives to something. Where the gateway wants what a team's people name to begin with their team's
 * own name (`team_names`), that stands before the field (docs/app-teams.md). */
import { t } from "@lingui/core/macro";
import { TextInput, type TextInputProps } from "@mantine/core";
import styles from "./OwnName.module.css";

const LONGEST_SHOWN = 24;

/** Whoever has typed the team's part themselves need not have it twice. */
export function wholeName(mark: string, rest: string): string {
  const name = rest.trim();
  return name.startsWith(mark) ? name : mark + name;
}

export function OwnName({ mark, description, value, ...field }: Omit<TextInputProps, "value"> & { mark: string; value: string }) {
  if (mark === "") return <TextInput {...field} description={description} value={value} />;
  const shown = mark.length > LONGEST_SHOWN ? `${mark.slice(0, LONGEST_SHOWN)}…` : mark;
  return (
    <TextInput
      {...field}
      value={value}
      description={
        <>
          {description ? <span className={styles.line}>{description}</span> : null}
          <span className={styles.line}>{value.trim() ? t`Its whole name: ${wholeName(mark, value)}` : t`Its name begins with your team's: ${mark}`}</span>
        </>
      }
      leftSection={<code className={styles.mark}>{shown}</code>}
      leftSectionWidth={`calc(${shown.length}ch + 14px)`}
    />
  );
}

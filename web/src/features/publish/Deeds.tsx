/** In the drawer of a thing: its buttons, and what the draft has of it. */
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPencil, IconTrash } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useState, type ReactNode } from "react";
import { useMay } from "@/api/session";
import styles from "./publish.module.css";
import { draftEntryQuery, draftQuery, type DraftKind } from "./queries";

interface DeedsProps {
  kind: DraftKind;
  name: string;
  /** Whether the reader may change it. */
  may: boolean;
  edit: (close: () => void) => ReactNode;
  remove?: ((close: () => void) => ReactNode) | undefined;
  /** Buttons for everybody. */
  children?: ReactNode;
}

export function Deeds({ kind, name, may, edit, remove, children }: DeedsProps) {
  const [doing, setDoing] = useState<"edit" | "remove">();
  const close = (): void => setDoing(undefined);
  return (
    <>
      <div className={styles.deeds}>
        {may ? (
          <Button size="xs" leftSection={<IconPencil size={15} />} onClick={() => setDoing("edit")}>
            <Trans>Edit</Trans>
          </Button>
        ) : null}
        {children}
        {may && remove ? (
          <Button size="xs" variant="default" leftSection={<IconTrash size={15} />} onClick={() => setDoing("remove")}>
            <Trans>Remove</Trans>
          </Button>
        ) : null}
      </div>
      <DraftNote kind={kind} name={name} />
      {doing === "edit" ? edit(close) : null}
      {doing === "remove" ? remove?.(close) : null}
    </>
  );
}

function DraftNote({ kind, name }: { kind: DraftKind; name: string }) {
  const may = useMay()("configuration:write");
  const exists = useQuery({ ...draftQuery, enabled: may }).data?.exists === true;
  const entry = useQuery({ ...draftEntryQuery(kind, name), enabled: may && exists }).data;
  if (!exists || !entry?.drafted) return null;
  return (
    <p className={styles.drafted}>
      {entry.entry === null ? <Trans>The draft removes it.</Trans> : <Trans>The draft changes it.</Trans>}{" "}
      <Link to="/publish" className={styles.noted ?? ""}>
        <Trans>Review and publish</Trans>
      </Link>
    </p>
  );
}

/** Above every page while something is drafted: how much, by whom, and the way to the page that publishes it. */
import { plural } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { IconPencil } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "@tanstack/react-router";
import { useMay } from "@/api/session";
import { Ago } from "@/ui/Figure";
import { draftQuery } from "./queries";
import styles from "./DraftBar.module.css";

export function DraftBar() {
  const may = useMay();
  const draft = useQuery({ ...draftQuery, enabled: may("configuration:write") }).data;
  const here = useLocation({ select: (location) => location.pathname });
  if (!draft?.exists || here === "/publish" || here.startsWith("/publish/")) return null;
  const by = draft.updated_by?.replace(/^user:/, "") ?? "";
  return (
    <div className={styles.bar} role="status">
      <IconPencil size={15} aria-hidden />
      <span>
        <b>{plural(draft.changes, { one: "# unpublished change", other: "# unpublished changes" })}</b>
        <span className={styles.by}>
          {" · "}
          <Trans>
            by {by}, <Ago at={draft.updated_at} />
          </Trans>
        </span>
      </span>
      <Link to="/publish">
        <Trans>Review and publish</Trans>
      </Link>
    </div>
  );
}

/** Above every page while something is drafted: how much, by whom, and the way to the page that publishes it. */
import { plural } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { IconPencil } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useLocation } from "@tanstack/react-router";
import { useMay } from "@/api/session";
import { Bar } from "@/ui/Bar";
import { Ago } from "@/ui/Figure";
import { draftQuery } from "./queries";

export function DraftBar() {
  const may = useMay();
  const draft = useQuery({ ...draftQuery, enabled: may("configuration:write") }).data;
  const here = useLocation({ select: (location) => location.pathname });
  if (!draft?.exists || here === "/publish" || here.startsWith("/publish/")) return null;
  const by = draft.updated_by?.replace(/^user:/, "") ?? "";
  return (
    <Bar
      tone="info"
      icon={<IconPencil size={15} aria-hidden />}
      deed={
        <Link to="/publish">
          <Trans>Review and publish</Trans>
        </Link>
      }
    >
      <b>{plural(draft.changes, { one: "# unpublished change", other: "# unpublished changes" })}</b>
      <span data-aside>
        {" · "}
        <Trans>
          by {by}, <Ago at={draft.updated_at} />
        </Trans>
      </span>
    </Bar>
  );
}

/** Bearer tokens for the REST API: for scripts, CI and the CLI from elsewhere. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useAdding } from "@/app/adding";
import type { Token } from "@/api/model";
import { Empty } from "@/ui/Answer";
import { Confirm } from "@/ui/Confirm";
import { DataTable, type Column } from "@/ui/DataTable";
import { When } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { revokeToken, tokensQuery } from "./queries";
import { TokenForm } from "./TokenForm";

export function TokensPage() {
  const tokens = useQuery(tokensQuery);
  const [making, setMaking] = useAdding();
  const [revoking, setRevoking] = useState<Token>();
  const queries = useQueryClient();
  const make = (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setMaking(true)}>
      <Trans>Make a token</Trans>
    </Button>
  );
  const columns: readonly Column<Token>[] = [
    { id: "name", header: t`Token`, sortBy: (token) => token.name, cell: (token) => token.name },
    { id: "prefix", header: t`Begins with`, hide: "phone", cell: (token) => <code>{token.prefix}…</code> },
    { id: "role", header: t`Role`, sortBy: (token) => token.role, cell: (token) => (token.team ? t`${token.role} of ${token.team}` : token.role) },
    { id: "scopes", header: t`Scopes`, hide: "phone", cell: (token) => (token.scopes ? <code title={token.scopes.join(", ")}>{token.scopes.join(", ")}</code> : t`all of the role's`) },
    { id: "by", header: t`Made by`, hide: "tablet", cell: (token) => token.created_by },
    { id: "made", header: t`Made`, hide: "tablet", cell: (token) => <When at={token.created_at} /> },
    { id: "expires", header: t`Expires`, hide: "phone", cell: (token) => (token.expires_at ? <When at={token.expires_at} /> : t`never`) },
    {
      id: "deed",
      header: "",
      number: true,
      cell: (token) => (
        <Button size="compact-sm" variant="subtle" color="red" onClick={() => setRevoking(token)} aria-label={t`Revoke ${token.name}`}>
          <Trans>Revoke</Trans>
        </Button>
      ),
    },
  ];
  return (
    <Page title={t`Tokens`} line={t`Bearer tokens for the REST API and the CLI, each with a role and an end.`} action={make}>
      <DataTable
        label={t`Tokens`}
        columns={columns}
        rows={tokens.data}
        rowId={(token) => String(token.id)}
        error={tokens.error}
        again={() => void tokens.refetch()}
        empty={<Empty title={t`No tokens`} why={t`Scripts and CI call the REST API with a token; its role says what it may do. Apps call models with keys instead.`} snippet="sluicegate token create --role viewer --name ci" />}
      />
      {making ? <TokenForm close={() => setMaking(false)} /> : null}
      {revoking ? (
        <Confirm
          title={t`Revoke ${revoking.name}?`}
          consequence={t`Every call of the REST API with this token is refused at once, and it cannot be made valid again.`}
          deed={t`Revoke ${revoking.name}`}
          act={async () => {
            await revokeToken(revoking.id);
            await queries.invalidateQueries({ queryKey: ["tokens"] });
          }}
          close={() => setRevoking(undefined)}
        />
      ) : null}
    </Page>
  );
}

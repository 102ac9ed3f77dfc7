/** Changes of a provider: name, address, zone, tags, credentials, and how it is reached. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { TagsInput, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import type { Provider } from "@/api/model";
import { EditForm } from "@/features/publish/EditForm";
import { useWrong } from "@/ui/wrong";
import { CredentialFields } from "./CredentialFields";
import { changeProvider, providerQuery, providersQuery } from "./queries";
import { ReachFields } from "./ReachFields";
import { isComplete, PROVIDER, type ProviderWritten } from "./written";

export function ProviderEditForm({ provider, close }: { provider: Provider; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <EditForm
      shape={PROVIDER}
      thing={provider}
      save={(version, patch) => changeProvider(provider.name, version, patch)}
      reread={() => queries.fetchQuery({ ...providerQuery(provider.name), staleTime: 0 })}
      shown={[providersQuery.queryKey]}
      done={(saved) => navigate({ to: "/providers/$name", params: { name: saved.name } })}
      complete={isComplete}
      renaming={<Trans>What the ledger has stays under the old one.</Trans>}
      note={<Trans>A secret that was drafted is not among it: publish the draft for that.</Trans>}
      wide
      close={close}
    >
      {(written, change) => <ProviderFields written={written} change={change} />}
    </EditForm>
  );
}

function ProviderFields({ written, change }: { written: ProviderWritten; change: (part: Partial<ProviderWritten>) => void }) {
  const wrong = useWrong();
  return (
    <>
      <TextInput label={t`Name`} description={t`What routes and limits call it`} required value={written.name} onChange={(event) => change({ name: event.currentTarget.value })} error={wrong("name")} />
      <TextInput label={t`Address`} required value={written.address} onChange={(event) => change({ address: event.currentTarget.value })} error={wrong("base_url")} data-autofocus />
      <TextInput label={t`Zone`} description={t`Workers of this zone go to it first`} value={written.zone} onChange={(event) => change({ zone: event.currentTarget.value })} error={wrong("zone")} />
      <TagsInput label={t`Tags`} description={t`What a route may prefer`} value={[...written.tags]} onChange={(tags) => change({ tags })} error={wrong("tags")} />
      <CredentialFields credentials={written.credentials} set={(credentials) => change({ credentials })} />
      <ReachFields address={written.address} reach={written} change={change} />
    </>
  );
}

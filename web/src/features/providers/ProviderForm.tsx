/** A new provider: an account at a vendor, with its first credential. */
import { t } from "@lingui/core/macro";
import { PasswordInput, Select, TextInput } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import type { DialectName } from "@/api/model";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog } from "@/ui/FormDialog";
import { makeProvider, providersQuery } from "./queries";
import { isReachComplete, reachWanted, USUAL } from "./reach";
import { ReachFields } from "./ReachFields";

/** Where each vendor is usually found; of the others only the operator knows. */
const DIALECTS: readonly { value: DialectName; label: string; address: string }[] = [
  { value: "openai", label: t`OpenAI, or compatible with it`, address: "https://api.openai.com/v1" },
  { value: "anthropic", label: "Anthropic", address: "https://api.anthropic.com" },
  { value: "gemini", label: "Gemini", address: "https://generativelanguage.googleapis.com" },
  { value: "mistral", label: "Mistral", address: "https://api.mistral.ai/v1" },
  { value: "ollama", label: "Ollama", address: "http://127.0.0.1:11434" },
  { value: "http", label: t`Any HTTP API`, address: "" },
];

const usual = (dialect: DialectName): string => DIALECTS.find((each) => each.value === dialect)?.address ?? "";

export function ProviderForm({ close }: { close: () => void }) {
  const [name, setName] = useState("");
  const [dialect, setDialect] = useState<DialectName>("openai");
  const [address, setAddress] = useState(usual("openai"));
  const [secret, setSecret] = useState("");
  const [reach, setReach] = useState(USUAL);
  const queries = useQueryClient();
  const navigate = useNavigate();

  function choose(chosen: DialectName): void {
    if (address === usual(dialect)) setAddress(usual(chosen)); // what somebody typed stays
    setDialect(chosen);
  }

  const wanted = { name: name.trim(), dialect, base_url: address.trim(), credentials: secret === "" ? [] : [{ name: "main", value: secret }], ...reachWanted(reach) };

  return (
    <FormDialog
      title={t`Add a provider`}
      deed={name.trim() ? t`Add ${name.trim()}` : t`Add the provider`}
      complete={name.trim() !== "" && address.trim() !== "" && isReachComplete(reach)}
      act={() => makeProvider(wanted)}
      draft={() => draftEntry("provider", wanted.name, { ...wanted }, "none")}
      done={async (provider) => {
        await queries.invalidateQueries({ queryKey: providersQuery.queryKey });
        close();
        await navigate({ to: "/providers/$name", params: { name: provider.name } });
      }}
      close={close}
    >
      <TextInput label={t`Name`} description={t`What routes and limits call it`} required value={name} onChange={(event) => setName(event.currentTarget.value)} data-autofocus />
      <Select label={t`Dialect`} data={DIALECTS.map(({ value, label }) => ({ value, label }))} value={dialect} allowDeselect={false} onChange={(chosen) => choose(chosen as DialectName)} />
      <TextInput label={t`Address`} required value={address} onChange={(event) => setAddress(event.currentTarget.value)} placeholder="http://10.0.0.7:8000" />
      <PasswordInput
        label={t`Credential`}
        description={t`The vendor's API key: sealed at once, never shown again. Left empty, requests go without one`}
        value={secret}
        onChange={(event) => setSecret(event.currentTarget.value)}
        autoComplete="off"
        visibilityToggleButtonProps={{ "aria-label": t`Show the credential` }}
      />
      <ReachFields address={address} reach={reach} change={(part) => setReach({ ...reach, ...part })} />
    </FormDialog>
  );
}

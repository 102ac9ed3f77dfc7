/** Step one: an account at a vendor, whose key is checked for real before it counts. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useState, type FormEvent } from "react";
import type { DialectName, ProviderTested } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Line } from "@/ui/FormDialog";
import { Mark } from "@/ui/Mark";
import { latency } from "@/units/time";
import { plain, sentence } from "@/units/words";
import { keepProvider, tryProvider } from "./queries";
import styles from "./start.module.css";

interface Vendor {
  label: string;
  name: string;
  dialect: DialectName;
  address: string;
  hint: string;
}

const vendors = (): readonly Vendor[] => [
  { label: "OpenAI", name: "openai", dialect: "openai", address: "https://api.openai.com/v1", hint: "sk-…" },
  { label: "Anthropic", name: "anthropic", dialect: "anthropic", address: "https://api.anthropic.com", hint: "sk-ant-…" },
  { label: "Gemini", name: "gemini", dialect: "gemini", address: "https://generativelanguage.googleapis.com", hint: "AIza…" },
  { label: "Mistral", name: "mistral", dialect: "mistral", address: "https://api.mistral.ai/v1", hint: "" },
  { label: "Ollama", name: "ollama", dialect: "ollama", address: "http://127.0.0.1:11434", hint: t`none is needed` },
  { label: t`OpenAI-compatible`, name: "own", dialect: "openai", address: "", hint: t`if it asks for one` },
];

const TAKEN = ["accepted", "unproven", "limited"];

export function ProviderStep({ there, begun, done }: { there: readonly string[]; begun: () => void; done: (tested: ProviderTested) => void }) {
  const all = vendors();
  const [vendor, setVendor] = useState<Vendor>(all[0]!);
  const [name, setName] = useState(vendor.name);
  const [address, setAddress] = useState(vendor.address);
  const [secret, setSecret] = useState("");
  const queries = useQueryClient();
  const check = useMutation({
    mutationFn: async () => {
      begun();
      await keepProvider(there.includes(name.trim()), { name: name.trim(), dialect: vendor.dialect, base_url: address.trim(), secret });
      await queries.invalidateQueries({ queryKey: ["providers"] });
      return tryProvider(name.trim());
    },
    onSuccess: (tested) => {
      if (tested.credentials.some((each) => TAKEN.includes(each.verdict))) done(tested);
    },
  });

  function choose(chosen: Vendor): void {
    setVendor(chosen);
    setName(chosen.name);
    setAddress(chosen.address);
    check.reset();
  }

  function submit(event: FormEvent): void {
    event.preventDefault();
    check.mutate();
  }

  const refused = check.data?.credentials.find((each) => !TAKEN.includes(each.verdict));
  return (
    <form onSubmit={submit} className={styles.form}>
      <div className={styles.vendors} role="radiogroup" aria-label={t`Vendor`}>
        {all.map((each) => (
          <button key={each.name} type="button" role="radio" aria-checked={each.name === vendor.name} className={styles.vendor} onClick={() => choose(each)}>
            {each.label}
          </button>
        ))}
      </div>
      <PasswordInput
        label={t`API key`}
        description={t`Sealed at once and never shown again`}
        placeholder={vendor.hint}
        value={secret}
        onChange={(event) => setSecret(event.currentTarget.value)}
        autoComplete="off"
        visibilityToggleButtonProps={{ "aria-label": t`Show the API key` }}
      />
      <Line>
        <TextInput label={t`Address`} required value={address} onChange={(event) => setAddress(event.currentTarget.value)} placeholder="http://10.0.0.7:8000/v1" />
        <TextInput label={t`Name`} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      </Line>
      {check.error ? <Problem error={check.error} /> : null}
      {refused ? (
        <div className={styles.refused} role="alert">
          <Mark tone="bad">{refused.verdict === "refused" ? t`The key is refused` : refused.verdict === "unreachable" ? t`Nobody answers there` : t`That does not work`}</Mark>
          <span>
            {plain(sentence(refused.reason))}. {refused.fix ? `${plain(sentence(refused.fix))}.` : ""}
          </span>
        </div>
      ) : null}
      <div className={styles.deeds}>
        <Button type="submit" loading={check.isPending} disabled={name.trim() === "" || address.trim() === ""}>
          {t`Check ${name.trim() || t`the provider`} and go on`}
        </Button>
        <span className={styles.hint}>
          <Trans>
            No account at hand? <code>sluicegate demo</code> starts a small model on this machine and does all three steps.
          </Trans>
        </span>
      </div>
    </form>
  );
}

/** What came of it, in a line. */
export function providerOutcome(tested: ProviderTested): string {
  const { provider } = tested;
  const took = latency(Math.min(...tested.credentials.map((each) => each.latency_ms)));
  return tested.models ? plural(tested.models.length, { one: `${provider} takes the key and lists # model (${took})`, other: `${provider} takes the key and lists # models (${took})` }) : t`${provider} answers (${took})`;
}

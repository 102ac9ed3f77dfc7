/** Step one: an account at a vendor, whose key is checked for real before it counts. */
import { plural, t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, PasswordInput, TextInput } from "@mantine/core";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useRef, useState, type FormEvent } from "react";
import type { DialectName, Provider, ProviderTested } from "@/api/model";
import { ApiProblem } from "@/api/problem";
import { Problem } from "@/ui/Answer";
import { Mark } from "@/ui/Mark";
import { latency } from "@/units/time";
import { plain, sentence } from "@/units/words";
import { keepProvider, takes, tryProvider } from "./queries";
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

interface ProviderStepProps {
  existing: readonly Provider[];
  /** One that an earlier visit has left here, and what was found where it does not work (yet). */
  left: { provider: Provider; refused: ProviderTested | undefined } | undefined;
  begun: () => void;
  done: (tested: ProviderTested) => void;
}

export function ProviderStep({ existing, left, begun, done }: ProviderStepProps) {
  const all = vendors();
  const [vendor, setVendor] = useState<Vendor>((left && vendorOf(left.provider, all)) ?? all[0]!);
  const [name, setName] = useState(left?.provider.name ?? vendor.name);
  const [address, setAddress] = useState(left?.provider.base_url ?? vendor.address);
  const [secret, setSecret] = useState("");
  const own = useRef(new Set<string>());
  const queries = useQueryClient();

  const wanted = { name: name.trim(), dialect: vendor.dialect, base_url: address.trim(), secret: secret.trim() };
  const there = existing.find((each) => each.name === wanted.name);
  const moves = there !== undefined && (there.base_url !== wanted.base_url || there.dialect !== wanted.dialect);
  const check = useMutation({
    mutationFn: async () => {
      begun();
      if (!there || moves || wanted.secret !== "") {
        await keepProvider(there, wanted);
        own.current.add(wanted.name);
        await queries.invalidateQueries({ queryKey: ["providers"] });
      }
      return tryProvider(wanted.name);
    },
    onSuccess: (tested) => {
      if (takes(tested)) done(tested);
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

  const problems = check.error ? ApiProblem.of(check.error) : undefined;
  const wrong = (field: string): string | undefined => {
    const each = problems?.fields.find((one) => one.field === field);
    return each && [each.problem, problems?.fix].filter(Boolean).join(". ");
  };
  const found = check.data ?? (check.isIdle && there?.id === left?.provider.id ? left?.refused : undefined);
  const refused = found && !takes(found) ? found.credentials[0] : undefined;
  return (
    <form onSubmit={submit} className={styles.form}>
      <div className={styles.vendors} role="radiogroup" aria-label={t`Vendor`}>
        {all.map((each) => (
          <label key={each.name} className={styles.vendor}>
            <input type="radio" name="vendor" checked={each.name === vendor.name} onChange={() => choose(each)} />
            {each.label}
          </label>
        ))}
      </div>
      <PasswordInput
        label={t`API key`}
        description={there && there.credentials.length > 0 ? t`Empty: the one that ${there.name} has` : t`Sealed at once and never shown again`}
        placeholder={vendor.hint}
        value={secret}
        onChange={(event) => setSecret(event.currentTarget.value)}
        autoComplete="off"
        visibilityToggleButtonProps={{ "aria-label": t`Show the API key` }}
        data-first
      />
      <div className={styles.pair}>
        <TextInput label={t`Address`} error={wrong("base_url")} required value={address} onChange={(event) => setAddress(event.currentTarget.value)} placeholder="http://10.0.0.7:8000/v1" />
        <TextInput label={t`Name`} error={wrong("name")} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      </div>
      {there && !own.current.has(there.name) ? <Replaces provider={there} works={there.id !== left?.provider.id || !left.refused} address={moves} secret={wanted.secret !== ""} /> : null}
      {check.error && !wrong("base_url") && !wrong("name") ? <Problem error={check.error} /> : null}
      {refused ? (
        <div className={styles.refused} role="alert">
          <Mark tone="bad">{refused.verdict === "refused" ? t`The key is refused` : refused.verdict === "unreachable" ? t`Nobody answers there` : t`That does not work`}</Mark>
          <span lang="en">
            {plain(sentence(refused.reason))}. {refused.fix ? `${plain(sentence(refused.fix))}.` : ""}
          </span>
        </div>
      ) : null}
      <div className={styles.deeds}>
        <Button type="submit" loading={check.isPending} disabled={wanted.name === "" || wanted.base_url === ""}>
          {t`Check ${wanted.name || t`the provider`} and go on`}
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

/** What the check would put in the place of something that is in use, maybe. */
function Replaces({ provider, works, address, secret }: { provider: Provider; works: boolean; address: boolean; secret: boolean }) {
  if (!address && !secret) return null;
  const keys = provider.credentials.length;
  const replaced = secret && keys > 0;
  return (
    <Mark tone={works ? "warn" : "info"}>
      {address && replaced
        ? plural(keys, { one: `${provider.name} exists: this replaces its address and its key`, other: `${provider.name} exists: this replaces its address and its # keys` })
        : address
          ? t`${provider.name} exists: this replaces its address`
          : replaced
            ? plural(keys, { one: `${provider.name} exists: this replaces its key`, other: `${provider.name} exists: this replaces its # keys` })
            : t`${provider.name} exists: this gives it a key`}
    </Mark>
  );
}

const vendorOf = (provider: Provider, all: readonly Vendor[]): Vendor | undefined =>
  all.find((each) => each.address === provider.base_url) ?? all.findLast((each) => each.dialect === provider.dialect);

/** What came of it, in a line. */
export function providerOutcome(tested: ProviderTested): string {
  const { provider } = tested;
  const took = latency(Math.min(...tested.credentials.map((each) => each.latency_ms)));
  return tested.models ? plural(tested.models.length, { one: `${provider} takes the key and lists # model (${took})`, other: `${provider} takes the key and lists # models (${took})` }) : t`${provider} answers (${took})`;
}

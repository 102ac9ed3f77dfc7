/** Changes of a provider: address, zone, tags, credentials added, replaced, taken away. Begins with what the draft has of it. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { ActionIcon, Button, PasswordInput, Skeleton, TagsInput, TextInput } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useRef, useState } from "react";
import { ApiProblem } from "@/api/problem";
import type { Provider } from "@/api/model";
import type { components } from "@/api/schema";
import { draftEntry, draftEntryQuery } from "@/features/publish/queries";
import { TheirsYours } from "@/features/publish/TheirsYours";
import { Problem } from "@/ui/Answer";
import { Dialog } from "@/ui/Confirm";
import { FormDialog } from "@/ui/FormDialog";
import styles from "./providers.module.css";
import { changeProvider, providerQuery, providersQuery } from "./queries";

type Patch = components["schemas"]["ProviderPatch"];

interface CredentialWritten {
  name: string;
  /** Empty: the stored secret stays. */
  value: string;
  stored: boolean;
}

interface Written {
  address: string;
  zone: string;
  tags: readonly string[];
  credentials: readonly CredentialWritten[];
}

/** `source`: a `ProviderView`, or a provider's entry of the draft; neither holds a secret. */
function writtenOf(source: Readonly<Record<string, unknown>>): Written {
  const provider = source as Partial<Pick<Provider, "base_url" | "zone" | "tags">> & { credentials?: readonly { name: string }[] };
  return {
    address: provider.base_url ?? "",
    zone: provider.zone ?? "",
    tags: provider.tags ?? [],
    credentials: (provider.credentials ?? []).map(({ name }) => ({ name, value: "", stored: true })),
  };
}

const patchOf = (written: Written): Patch => ({
  base_url: written.address.trim(),
  zone: written.zone.trim() || null,
  tags: [...written.tags],
  credentials: written.credentials.map(({ name, value }) => ({ name: name.trim(), ...(value ? { value } : {}) })),
});

function changesOf(before: Written, after: Written): Patch {
  const was = patchOf(before) as Record<string, unknown>;
  return Object.fromEntries(Object.entries(patchOf(after)).filter(([field, value]) => JSON.stringify(value) !== JSON.stringify(was[field])));
}

export function ProviderEditForm({ provider, close }: { provider: Provider; close: () => void }) {
  const entry = useQuery({ ...draftEntryQuery("provider", provider.name), staleTime: Infinity, gcTime: 0, refetchOnWindowFocus: false });
  if (entry.data?.entry) return <Edit provider={provider} before={entry.data.entry} etag={entry.data.etag} drafted={entry.data.drafted} close={close} />;
  return (
    <Dialog title={t`Change ${provider.name}`} close={close}>
      {entry.error ? <Problem error={entry.error} again={() => void entry.refetch()} /> : entry.data ? <Trans>The draft removes this provider. Take that back first.</Trans> : <Skeleton height={240} />}
    </Dialog>
  );
}

interface EditProps {
  provider: Provider;
  before: Readonly<Record<string, unknown>>;
  etag: string;
  drafted: boolean;
  close: () => void;
}

function Edit({ provider, before, etag, drafted, close }: EditProps) {
  const [base, setBase] = useState(() => writtenOf(before));
  const [written, setWritten] = useState(base);
  // As it was when the form was opened: what others change meanwhile is no change of ours.
  const [inForce, setInForce] = useState(() => writtenOf({ ...provider }));
  const seen = useRef({ version: provider.version, etag });
  const queries = useQueryClient();
  const change = (part: Partial<Written>): void => setWritten({ ...written, ...part });
  const credential = (at: number, part: Partial<CredentialWritten>): void => change({ credentials: written.credentials.map((each, index) => (index === at ? { ...each, ...part } : each)) });
  const changes = changesOf(base, written);
  const direct = changesOf(inForce, written);
  const complete = written.address.trim() !== "" && written.credentials.every((each) => each.name.trim() !== "" && (each.stored || each.value !== ""));
  return (
    <FormDialog
      title={t`Change ${provider.name}`}
      deed={t`Save ${provider.name}`}
      wide
      complete={complete && Object.keys(drafted ? direct : changes).length > 0}
      act={() => changeProvider(provider.name, seen.current.version, direct)}
      draft={() => draftEntry("provider", provider.name, { ...changes }, seen.current.etag)}
      done={async () => {
        await Promise.all([queries.invalidateQueries({ queryKey: providersQuery.queryKey }), queries.invalidateQueries({ queryKey: ["draft"] })]);
        close();
      }}
      close={close}
      problem={(error, again) =>
        error instanceof ApiProblem && error.status === 412 ? (
          <Changed
            error={error}
            name={provider.name}
            mine={error.told["etag"] ? changes : direct}
            keep={(state) => {
              seen.current = { ...seen.current, ...state };
              again();
            }}
            take={(theirs, state) => {
              seen.current = { ...seen.current, ...state };
              setBase(theirs);
              if (state.version !== undefined) setInForce(theirs);
              setWritten(theirs);
            }}
          />
        ) : undefined
      }
    >
      {drafted ? (
        <p className={styles.took}>
          <Trans>This provider has drafted changes; the form shows them. A secret that was drafted is not put into force by “Save”: publish the draft for that.</Trans>
        </p>
      ) : null}
      <TextInput label={t`Address`} required value={written.address} onChange={(event) => change({ address: event.currentTarget.value })} data-autofocus />
      <TextInput label={t`Zone`} description={t`Workers of this zone go to it first`} value={written.zone} onChange={(event) => change({ zone: event.currentTarget.value })} />
      <TagsInput label={t`Tags`} description={t`What a route may prefer`} value={[...written.tags]} onChange={(tags) => change({ tags })} />
      <fieldset className={styles.credentials}>
        <legend>
          <Trans>Credentials</Trans>
        </legend>
        {written.credentials.map((each, at) => (
          <div key={at} className={styles.credential}>
            <TextInput aria-label={t`Name of credential ${at + 1}`} placeholder={t`Name`} value={each.name} readOnly={each.stored} onChange={(event) => credential(at, { name: event.currentTarget.value })} />
            <PasswordInput
              aria-label={t`Secret of credential ${at + 1}`}
              placeholder={each.stored ? t`stored; write another to replace it` : t`The vendor's API key`}
              value={each.value}
              onChange={(event) => credential(at, { value: event.currentTarget.value })}
              autoComplete="off"
              visibilityToggleButtonProps={{ "aria-label": t`Show the secret` }}
            />
            <ActionIcon variant="subtle" color="gray" size="lg" onClick={() => change({ credentials: written.credentials.filter((_, index) => index !== at) })} aria-label={t`Take credential ${each.name || at + 1} away`}>
              <IconTrash size={16} />
            </ActionIcon>
          </div>
        ))}
        <div>
          <Button variant="default" size="xs" leftSection={<IconPlus size={15} />} onClick={() => change({ credentials: [...written.credentials, { name: written.credentials.length === 0 ? "main" : "", value: "", stored: false }] })}>
            <Trans>Add a credential</Trans>
          </Button>
        </div>
      </fieldset>
    </FormDialog>
  );
}

interface ChangedProps {
  error: ApiProblem;
  name: string;
  mine: Patch;
  keep: (state: { version?: number; etag?: string }) => void;
  take: (theirs: Written, state: { version?: number; etag?: string }) => void;
}

function Changed({ error, name, mine, keep, take }: ChangedProps) {
  const told = error.told["theirs"] as Readonly<Record<string, unknown>> | undefined;
  const etag = error.told["etag"] as string | undefined;
  const now = useQuery({ ...providerQuery(name), enabled: etag === undefined, staleTime: 0, gcTime: 0, refetchOnMount: "always" });
  if (etag !== undefined && !told) return <Problem error={error} />; // it is not there any more
  const theirs = etag === undefined ? (now.isFetching ? undefined : now.data) : told;
  if (!theirs) return now.error ? <Problem error={now.error} /> : <Skeleton height={80} />;
  const written = writtenOf({ ...theirs });
  const wanted = patchOf(written) as Record<string, unknown>;
  const state = etag === undefined ? (now.data ? { version: now.data.version } : {}) : { etag };
  return <TheirsYours fields={Object.entries(mine).map(([field, yours]) => ({ field, yours: shown(yours), theirs: shown(wanted[field]) }))} keep={() => keep(state)} take={() => take(written, state)} />;
}

/** Secrets are not shown, not even one's own. */
const shown = (value: unknown): unknown =>
  Array.isArray(value) ? value.map((each: unknown) => (typeof each === "object" && each !== null && "value" in each ? { ...each, value: t`another secret` } : each)) : value;

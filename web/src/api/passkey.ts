/** Passkeys in the browser: whether it can have them here, making one, signing in with one. */
import { t } from "@lingui/core/macro";
import { api, unwrap } from "./client";
import type { PasskeyMade, Session } from "./model";
import { ApiProblem } from "./problem";

/** Why this browser cannot use passkeys here; undefined where it can. Browsers want HTTPS (or localhost), and a name. */
export function noPasskeysBecause(): string | undefined {
  const { hostname } = window.location;
  if (!window.isSecureContext) return t`Browsers offer passkeys over HTTPS only.`;
  if (/^[\d.]+$|^\[/.test(hostname)) return t`Browsers offer passkeys for host names only, not for ${hostname}. On this machine, open the console at localhost.`;
  if (typeof PublicKeyCredential === "undefined" || !("parseRequestOptionsFromJSON" in PublicKeyCredential)) return t`This browser is too old for passkeys.`;
  return undefined;
}

export async function signInByPasskey(): Promise<Session> {
  return unwrap(api.POST("/api/v1/session/passkey", { body: await shownPasskey() }));
}

/** Confirms by it who sits here. */
export async function confirmByPasskey(): Promise<void> {
  await unwrap(api.POST("/api/v1/session/confirmation", { body: await shownPasskey() }));
}

async function shownPasskey(): Promise<{ ticket: string; credential: Record<string, unknown> }> {
  const { ticket, options } = await unwrap(api.POST("/api/v1/session/passkey-options"));
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options as unknown as PublicKeyCredentialRequestOptionsJSON);
  return { ticket, credential: await asked(() => navigator.credentials.get({ publicKey })) };
}

export async function makePasskey(name: string, password: string | null): Promise<PasskeyMade> {
  const { ticket, options } = await unwrap(api.POST("/api/v1/account/passkey-options", { body: { password } }));
  const publicKey = PublicKeyCredential.parseCreationOptionsFromJSON(options as unknown as PublicKeyCredentialCreationOptionsJSON);
  const credential = await asked(() => navigator.credentials.create({ publicKey }));
  return unwrap(api.POST("/api/v1/account/passkeys", { body: { ticket, name, credential } }));
}

/** What the authenticator answered, as JSON. Its refusals (WebAuthn 14.5) in words. */
async function asked(ask: () => Promise<Credential | null>): Promise<Record<string, unknown>> {
  const credential = await ask().catch((error: unknown) => {
    const name = error instanceof DOMException ? error.name : "";
    if (name === "InvalidStateError") throw new ApiProblem(0, { detail: t`This authenticator has a passkey of yours already`, fix: t`Use another one` });
    if (name === "NotAllowedError") throw new ApiProblem(0, { detail: t`The browser got no passkey: it was called off, took too long, or there is none for this host`, fix: t`Try again` });
    throw error;
  });
  if (!(credential instanceof PublicKeyCredential)) throw new ApiProblem(0, { detail: t`The browser gave no passkey`, fix: t`Try again` });
  return { ...(credential.toJSON() as object) };
}

// A certified OpenID provider (panva's oidc-provider) on loopback, with a sign-in page of its own and a way to be told
// what to do: POST /control {accounts, tamper, rotate}. Started by tests/support/identity_provider.py with its settings as
// JSON in argv; prints {"url": …} once it listens.
import { createServer } from "node:http";
import { createHmac, createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import Provider, { errors } from "oidc-provider";

const settings = JSON.parse(process.argv[2]);
let accounts = settings.accounts;
let tamper = null;
let numbered = 0;
let keys = [newKey()];
let provider;

function newKey() {
  const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  numbered += 1;
  return { ...privateKey.export({ format: "jwk" }), kid: `key-${numbered}`, use: "sig", alg: "RS256" };
}

const base64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

// The ID token again with other claims, another algorithm or another key: what an attacker, or a broken provider, gives.
function forged(idToken) {
  const [, payload] = idToken.split(".");
  const claims = { ...JSON.parse(Buffer.from(payload, "base64url")), ...(tamper.claims ?? {}) };
  for (const name of tamper.without ?? []) delete claims[name];
  const alg = tamper.alg ?? "RS256";
  const key = tamper.strange ? { ...newKey(), kid: keys[0].kid } : keys[0];
  const signed = `${base64({ alg, kid: key.kid, typ: "JWT" })}.${base64(claims)}`;
  if (alg === "none") return `${signed}.`;
  if (alg === "HS256") return `${signed}.${createHmac("sha256", settings.client_secret).update(signed).digest("base64url")}`;
  return `${signed}.${sign("sha256", Buffer.from(signed), createPrivateKey({ key, format: "jwk" })).toString("base64url")}`;
}

function make(issuer) {
  const made = new Provider(issuer, {
    clients: [
      {
        client_id: settings.client_id,
        client_secret: settings.client_secret,
        redirect_uris: settings.redirect_uris,
        post_logout_redirect_uris: settings.post_logout_redirect_uris,
        response_types: ["code"],
        grant_types: ["authorization_code"],
      },
    ],
    jwks: { keys },
    claims: { openid: ["sub"], profile: ["preferred_username", "name"], email: ["email", "email_verified"], groups: ["groups"] },
    scopes: ["openid", "profile", "email", "groups"],
    conformIdTokenClaims: settings.userinfo_only ?? false,
    features: { devInteractions: { enabled: false }, rpInitiatedLogout: { enabled: true } },
    cookies: { keys: ["of-tests-only"] },
    interactions: { url: (_ctx, interaction) => `/sign-in/${interaction.uid}` },
    findAccount: (_ctx, id) => (accounts[id] ? { accountId: id, claims: () => ({ sub: id, ...accounts[id] }) } : undefined),
    loadExistingGrant: async (ctx) => {
      const grant = new ctx.oidc.provider.Grant({ clientId: ctx.oidc.client.clientId, accountId: ctx.oidc.session.accountId });
      grant.addOIDCScope("openid profile email groups");
      await grant.save();
      return grant;
    },
  });
  made.use(async (ctx, next) => {
    if (ctx.oidc === undefined && tamper?.token_error && ctx.path === "/token") throw new errors.InvalidGrant(tamper.token_error);
    await next();
    if (tamper && ctx.oidc?.route === "token" && ctx.body?.id_token) ctx.body = { ...ctx.body, id_token: forged(ctx.body.id_token) };
  });
  return made;
}

const read = async (request) => {
  let text = "";
  for await (const piece of request) text += piece;
  return text;
};

const server = createServer(async (request, response) => {
  try {
    const path = new URL(request.url, "http://localhost").pathname;
    if (path === "/control") {
      const told = JSON.parse(await read(request));
      if (told.accounts) accounts = { ...accounts, ...told.accounts };
      if ("tamper" in told) tamper = told.tamper;
      if (told.rotate) {
        keys = [newKey()];
        provider = make(provider.issuer);
      }
      response.end("{}");
    } else if (path.startsWith("/sign-in/") && request.method === "POST") {
      const login = new URLSearchParams(await read(request)).get("login");
      if (login === "") await provider.interactionFinished(request, response, { error: "access_denied", error_description: "the person went away" });
      else await provider.interactionFinished(request, response, { login: { accountId: login } });
    } else if (path.startsWith("/sign-in/")) {
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end('<!doctype html><title>Sign in</title><form method="post"><label>Login <input name="login" autofocus></label><button>Continue</button></form>');
    } else {
      provider.callback()(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error));
  }
});

server.listen(settings.port ?? 0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${server.address().port}`;
  provider = make(url);
  console.log(JSON.stringify({ url }));
});

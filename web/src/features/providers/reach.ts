/** How a provider is reached, as forms hold it: by which proxy, with what TLS, whether it is checked. */
import { t } from "@lingui/core/macro";
import type { components } from "@/api/schema";

type Schemas = components["schemas"];
type Fields = Readonly<Record<string, unknown>>;

export interface ProxyWritten {
  /** As the service's environment says, none whatever it says, or the one named here. */
  how: "environment" | "none" | "own";
  url: string;
  user: string;
  /** Empty: the stored one stays. */
  password: string;
  stored: boolean;
}

export interface TlsWritten {
  ca: string;
  serverName: string;
  verify: boolean;
  cert: string;
  /** Empty: the stored one stays. */
  key: string;
  stored: boolean;
}

export interface HealthWritten {
  path: string;
  /** Seconds, as is `timeout`. */
  interval: number;
  timeout: number;
  healthyAfter: number;
  unhealthyAfter: number;
}

export interface ReachWritten {
  proxy: ProxyWritten;
  tls: TlsWritten;
  health: HealthWritten | null;
}

export const CHECK: HealthWritten = { path: "/", interval: 10, timeout: 2, healthyAfter: 2, unhealthyAfter: 3 };
export const USUAL: ReachWritten = {
  proxy: { how: "environment", url: "", user: "", password: "", stored: false },
  tls: { ca: "", serverName: "", verify: true, cert: "", key: "", stored: false },
  health: null,
};

/** From a view, which says whether there is a secret, or from an entry of the draft, which has a reference in its place. */
export function reachOf(source: Fields): ReachWritten {
  const { proxy, tls, health } = source as {
    proxy?: (Partial<Schemas["ProxyView"]> & { password?: string }) | null;
    tls?: (Partial<Schemas["UpstreamTlsView"]> & { key?: string }) | null;
    health?: Partial<Schemas["HealthView"]> | null;
  };
  return {
    proxy: proxy
      ? { how: proxy.url === "none" ? "none" : "own", url: proxy.url === "none" ? "" : (proxy.url ?? ""), user: proxy.user ?? "", password: "", stored: proxy.has_password ?? proxy.password !== undefined }
      : USUAL.proxy,
    tls: tls
      ? { ca: tls.ca ?? "", serverName: tls.server_name ?? "", verify: tls.verify ?? true, cert: tls.cert ?? "", key: "", stored: tls.has_key ?? tls.key !== undefined }
      : USUAL.tls,
    health: health
      ? {
          path: health.path ?? CHECK.path,
          interval: health.interval ?? CHECK.interval,
          timeout: health.timeout ?? CHECK.timeout,
          healthyAfter: health.healthy_after ?? CHECK.healthyAfter,
          unhealthyAfter: health.unhealthy_after ?? CHECK.unhealthyAfter,
        }
      : null,
  };
}

/** What the API takes. A stored secret is left out where it stays, and null where it goes with what it belonged to. */
export const reachWanted = ({ proxy, tls, health }: ReachWritten) => ({
  proxy: proxyWanted(proxy),
  tls: tlsWanted(tls),
  health: health && {
    path: health.path.trim(),
    interval: health.interval,
    timeout: health.timeout,
    healthy_after: health.healthyAfter,
    unhealthy_after: health.unhealthyAfter,
  },
});

function proxyWanted({ how, url, user, password, stored }: ProxyWritten): Schemas["ProxyDocument"] | null {
  if (how === "environment") return null;
  if (how === "none") return { url: "none", user: null, password: null };
  const known = user.trim() !== "";
  return { url: url.trim(), user: user.trim() || null, ...(known && password ? { password } : known && stored ? {} : { password: null }) };
}

function tlsWanted({ ca, serverName, verify, cert, key, stored }: TlsWritten): Schemas["UpstreamTlsDocument"] | null {
  if (verify && [ca, serverName, cert, key].every((each) => each.trim() === "")) return null;
  const shows = cert.trim() !== "";
  return {
    ca: pem(ca),
    server_name: serverName.trim() || null,
    verify,
    cert: pem(cert),
    ...(key.trim() !== "" ? { key: pem(key) } : shows && stored ? {} : { key: null }),
  };
}

/** As the API writes it: one newline at its end. */
const pem = (text: string): string | null => (text.trim() === "" ? null : `${text.trim()}\n`);

export const isReachComplete = ({ proxy, health }: ReachWritten): boolean => (proxy.how !== "own" || proxy.url.trim() !== "") && (health === null || health.path.trim() !== "");

export const PROXIES: readonly { value: ProxyWritten["how"]; label: string }[] = [
  { value: "environment", label: t`As the service's environment says` },
  { value: "none", label: t`None, whatever the environment says` },
  { value: "own", label: t`This one` },
];

/** How a provider is reached: its proxy, TLS towards it, an active check. Most leave it as it is. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { NumberInput, PasswordInput, Select, Switch, Textarea, TextInput } from "@mantine/core";
import { Line } from "@/ui/FormDialog";
import { More } from "@/ui/More";
import { useWrong } from "@/ui/wrong";
import styles from "./providers.module.css";
import { CHECK, PROXIES, USUAL, type HealthWritten, type ProxyWritten, type ReachWritten, type TlsWritten } from "./reach";

interface ReachFieldsProps {
  address: string;
  reach: ReachWritten;
  change: (part: Partial<ReachWritten>) => void;
}

export function ReachFields({ address, reach, change }: ReachFieldsProps) {
  const { proxy, tls, health } = reach;
  // Over plain http there is none; what is there is shown all the same, so that it can be taken away.
  const encrypted = address.trim().toLowerCase().startsWith("https:") || JSON.stringify(tls) !== JSON.stringify(USUAL.tls);
  return (
    <More title={<Trans>Advanced: proxy, TLS, health check</Trans>} fields={["proxy", "tls", "health"]}>
      <ProxyFields proxy={proxy} change={(part) => change({ proxy: { ...proxy, ...part } })} />
      {encrypted ? <TlsFields tls={tls} change={(part) => change({ tls: { ...tls, ...part } })} /> : null}
      <HealthFields health={health} set={(checked) => change({ health: checked })} />
    </More>
  );
}

function ProxyFields({ proxy, change }: { proxy: ProxyWritten; change: (part: Partial<ProxyWritten>) => void }) {
  const wrong = useWrong();
  return (
    <fieldset className={styles.group}>
      <legend>
        <Trans>Proxy</Trans>
      </legend>
      <Select label={t`Which HTTP proxy`} data={[...PROXIES]} value={proxy.how} allowDeselect={false} onChange={(chosen) => change({ how: chosen as ProxyWritten["how"] })} />
      {proxy.how === "own" ? (
        <>
          <TextInput label={t`Its URL`} placeholder="http://proxy.internal:3128" required value={proxy.url} onChange={(event) => change({ url: event.currentTarget.value })} error={wrong("proxy.url")} />
          <Line>
            <TextInput label={t`User`} value={proxy.user} onChange={(event) => change({ user: event.currentTarget.value })} error={wrong("proxy.user")} autoComplete="off" />
            <PasswordInput
              label={t`Password`}
              placeholder={proxy.stored ? t`stored; write another to replace it` : ""}
              value={proxy.password}
              disabled={proxy.user.trim() === ""}
              onChange={(event) => change({ password: event.currentTarget.value })}
              error={wrong("proxy.password")}
              autoComplete="off"
              visibilityToggleButtonProps={{ "aria-label": t`Show the password` }}
            />
          </Line>
        </>
      ) : null}
    </fieldset>
  );
}

const CERTIFICATE = "-----BEGIN CERTIFICATE-----";

function TlsFields({ tls, change }: { tls: TlsWritten; change: (part: Partial<TlsWritten>) => void }) {
  const wrong = useWrong();
  const mono = { classNames: { input: styles.pem ?? "" }, rows: 3, autoComplete: "off", spellCheck: false };
  return (
    <fieldset className={styles.group}>
      <legend>TLS</legend>
      <TextInput
        label={t`Server name`}
        description={t`For SNI and the certificate, in place of the address's host`}
        placeholder="api.example.com"
        value={tls.serverName}
        onChange={(event) => change({ serverName: event.currentTarget.value })}
        error={wrong("tls.server_name")}
      />
      <Switch
        label={t`Verify its certificate`}
        description={tls.verify ? t`Off: whoever stands between can read credentials and answers` : t`Whoever stands between can read credentials and answers`}
        checked={tls.verify}
        onChange={(event) => change({ verify: event.currentTarget.checked })}
      />
      {tls.verify || tls.ca !== "" ? (
        <Textarea {...mono} label={t`Authorities that are believed`} description={t`Certificates in PEM, in place of the system's`} placeholder={CERTIFICATE} value={tls.ca} onChange={(event) => change({ ca: event.currentTarget.value })} error={wrong("tls.ca")} />
      ) : null}
      <Textarea {...mono} label={t`Our certificate`} description={t`In PEM, with its chain; where the provider asks for one`} placeholder={CERTIFICATE} value={tls.cert} onChange={(event) => change({ cert: event.currentTarget.value })} error={wrong("tls.cert")} />
      {tls.cert.trim() !== "" || tls.key !== "" ? (
        <Textarea
          {...mono}
          label={t`Its private key`}
          description={t`In PEM, without passphrase: sealed at once, never shown again`}
          placeholder={tls.stored ? t`stored; write another to replace it` : "-----BEGIN PRIVATE KEY-----"}
          value={tls.key}
          onChange={(event) => change({ key: event.currentTarget.value })}
          error={wrong("tls.key")}
        />
      ) : null}
    </fieldset>
  );
}

function HealthFields({ health, set }: { health: HealthWritten | null; set: (health: HealthWritten | null) => void }) {
  const wrong = useWrong();
  const seconds = (field: "interval" | "timeout", label: string, min: number) => (
    <NumberInput label={label} suffix=" s" min={min} max={86_400} decimalScale={3} hideControls required value={health?.[field] ?? ""} onChange={(value) => health && set({ ...health, [field]: Number(value) })} error={wrong(`health.${field}`)} />
  );
  const times = (field: "healthyAfter" | "unhealthyAfter", named: string, label: string) => (
    <NumberInput label={label} min={1} max={100} allowDecimal={false} hideControls required value={health?.[field] ?? ""} onChange={(value) => health && set({ ...health, [field]: Number(value) })} error={wrong(`health.${named}`)} />
  );
  return (
    <fieldset className={styles.group}>
      <legend>
        <Trans>Health check</Trans>
      </legend>
      <Switch label={t`Ask it again and again whether it is well`} description={t`Else what requests meet tells its state`} checked={health !== null} onChange={(event) => set(event.currentTarget.checked ? CHECK : null)} />
      {health ? (
        <>
          <TextInput
            label={t`Path`}
            description={t`Asked by GET on the address's host, from its root; 2xx and 3xx are well`}
            required
            value={health.path}
            onChange={(event) => set({ ...health, path: event.currentTarget.value })}
            error={wrong("health.path")}
          />
          <Line>
            {seconds("interval", t`Every`, 0.5)}
            {seconds("timeout", t`Answer within`, 0.001)}
            {times("unhealthyAfter", "unhealthy_after", t`Down after bad`)}
            {times("healthyAfter", "healthy_after", t`Up after good`)}
          </Line>
        </>
      ) : null}
    </fieldset>
  );
}

/** How a system, a language, a container comes to trust the authority (docs/interception-tls.md). */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { SegmentedControl } from "@mantine/core";
import { useState } from "react";
import { Snippet } from "@/ui/Copy";
import { Section } from "@/ui/Page";
import styles from "./interception.module.css";

const FILE = "sluicegate-ca.pem";
const BUNDLE = "/etc/ssl/certs/ca-certificates.crt";

const HELP: readonly { name: string; label: string; text: string; snippet: string }[] = [
  {
    name: "debian",
    label: "Debian, Ubuntu",
    text: t`On the gateway's host one command does it. On others put the file into the system's store; programs read it when they start.`,
    snippet: `sudo sluicegate ca trust\n\n# on another host\nsudo cp ${FILE} /usr/local/share/ca-certificates/sluicegate.crt\nsudo update-ca-certificates`,
  },
  { name: "redhat", label: "RHEL, Fedora", text: t`Into the system's store.`, snippet: `sudo cp ${FILE} /etc/pki/ca-trust/source/anchors/\nsudo update-ca-trust` },
  { name: "macos", label: "macOS", text: t`Into the system's keychain.`, snippet: `sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain ${FILE}` },
  { name: "windows", label: "Windows", text: t`Into the machine's store, as an administrator.`, snippet: `certutil -addstore -f ROOT ${FILE}` },
  {
    name: "python",
    label: "Python",
    text: t`httpx, requests and the SDKs of OpenAI, Anthropic and Mistral bring a list of their own: point them at the system's bundle, once ours is in it.`,
    snippet: `export SSL_CERT_FILE=${BUNDLE}        # httpx, the SDKs\nexport REQUESTS_CA_BUNDLE=${BUNDLE}   # requests`,
  },
  { name: "node", label: "Node.js", text: t`Beside the authorities that it brings.`, snippet: `export NODE_EXTRA_CA_CERTS=$PWD/${FILE}` },
  { name: "go", label: t`Go, curl, git`, text: t`They read the system's store. Without it:`, snippet: `export SSL_CERT_FILE=$PWD/${FILE}      # Go: in place of the system's\ncurl --cacert ${FILE} …\nexport GIT_SSL_CAINFO=$PWD/${FILE}` },
  {
    name: "java",
    label: "Java",
    text: t`Java does not hold a root to the names that it may sign for: put it into the store of the programs that need it, not into that of the whole JVM.`,
    snippet: `keytool -importcert -noprompt -alias sluicegate -file ${FILE} -keystore trust.p12 -storepass changeit\njava -Djavax.net.ssl.trustStore=trust.p12 -Djavax.net.ssl.trustStorePassword=changeit …`,
  },
  {
    name: "docker",
    label: t`Containers`,
    text: t`A container has a store of its own: mount the certificate, or the host's bundle over the container's.`,
    snippet: `docker run -v $PWD/${FILE}:/usr/local/share/ca-certificates/sluicegate.crt:ro \\\n    -e NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/sluicegate.crt IMAGE …\n\ndocker run -v ${BUNDLE}:${BUNDLE}:ro IMAGE …`,
  },
];

export function Trust() {
  const [chosen, setChosen] = useState(HELP[0]!.name);
  const help = HELP.find((each) => each.name === chosen) ?? HELP[0]!;
  return (
    <Section title={t`Let clients trust it`}>
      <div className={styles.scroll}>
        <SegmentedControl size="xs" aria-label={t`Of which system or language`} value={chosen} onChange={setChosen} data={HELP.map(({ name, label }) => ({ value: name, label }))} />
      </div>
      <p className={styles.quiet}>{help.text}</p>
      <Snippet text={help.snippet} what={t`commands for ${help.label}`} />
      <p className={styles.quiet}>
        <Trans>Programs that pin a certificate refuse it whatever the host trusts: leave their hosts at pass-through, or point them at the gateway by a base URL.</Trans>
      </p>
    </Section>
  );
}

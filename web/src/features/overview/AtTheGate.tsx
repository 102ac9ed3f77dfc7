/** What is intercepted, what is open, what is denied: as it stands in the kernel of this node. */
import { plural, t } from "@lingui/core/macro";
import { Link } from "@tanstack/react-router";
import type { Gate } from "@/api/model";
import { Facts } from "@/ui/Drawer";
import { Count, Unknown } from "@/ui/Figure";
import { Mark } from "@/ui/Mark";
import { Section } from "@/ui/Page";
import { plain, sentence } from "@/units/words";
import styles from "./overview.module.css";

export function AtTheGate({ gate }: { gate: Gate }) {
  const of = (state: string): number => gate.findings[state] ?? 0;
  const undecided = of("new");
  const open = of("observe");
  const known = (n: number) => (gate.trouble ? <Unknown why={gate.trouble} /> : <Count n={n} unit={t`connections since the agent started`} />);
  return (
    <Section title={t`At the gate`} aside={<Link to="/flows">{t`As a picture`}</Link>}>
      <div className={styles.gate}>
        <Facts
          facts={[
            [t`Interception rules`, gate.rules === 0 ? t`none` : <Mark key="r" tone={gate.armed === gate.rules ? "ok" : "warn"}>{t`${gate.armed} of ${gate.rules} armed`}</Mark>],
            [t`Connections captured`, known(gate.captured)],
            [t`Of these passed on untouched`, known(gate.passed)],
            [t`Connections denied`, known(gate.denied)],
            [
              t`Going past`,
              undecided + open === 0 ? (
                t`nobody found`
              ) : (
                <Link key="d" to="/discoveries">
                  {plural(undecided + open, { one: "# process or client", other: "# processes or clients" })}
                  {undecided > 0 ? t`, ${undecided} undecided` : ""}
                </Link>
              ),
            ],
            [t`Governed, denied`, t`${of("govern")}, ${of("deny")}`],
          ]}
        />
        {gate.trouble ? <p className={styles.gateTrouble}>{plain(sentence(gate.trouble))}. <code>sluicegate doctor</code></p> : null}
      </div>
    </Section>
  );
}

/** How requests fare at a provider: spend and errors of the range, the last failure, and what is not known. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { useRange } from "@/app/range";
import type { Provider } from "@/api/model";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { whyNone } from "@/features/overview/words";
import { Facts, Part } from "@/ui/Drawer";
import { Ago, Count, Unknown } from "@/ui/Figure";
import { lastFailureQuery } from "./queries";
import styles from "./providers.module.css";

export function HowItFares({ provider }: { provider: Provider }) {
  const usage = useQuery(usageQuery("provider", useRange()));
  const failure = useQuery(lastFailureQuery(provider.name));
  const of = usage.data?.find((each) => each.provider === provider.name);
  const quiet = whyNone(usage);
  return (
    <Part title={t`How requests fare`}>
      <Facts
        facts={[
          [t`Requests in this range`, <Count key="n" n={of?.requests} unit={t`requests`} why={quiet} />],
          [t`Failed or refused`, <Count key="e" n={of?.errors} unit={t`requests`} why={quiet} />],
          [t`Spend in this range`, <Spend key="s" of={of} why={quiet} />],
          [
            t`Last failure`,
            failure.data ? (
              <Link key="f" to="/requests/$id" params={{ id: failure.data.id }}>
                <Ago at={failure.data.started_at} />
                {failure.data.upstream_status ? t`: it answered ${failure.data.upstream_status}` : failure.data.error_code ? `: ${failure.data.error_code}` : ""}
              </Link>
            ) : failure.data === null ? (
              t`none in the last week`
            ) : (
              <Unknown key="f" why={failure.error?.message ?? t`loading`} />
            ),
          ],
        ]}
      />
      {provider.credentials.length > 1 ? (
        <p className={styles.took}>
          <Trans>
            Requests are spread over the credentials; one that is refused or limited is set aside for a while. What each has spent is not known: the ledger records a request's provider, not the credential that it showed. A{" "}
            <Link to="/limits">limit on a credential</Link> counts it from then on; a provider for each keeps them apart for good.
          </Trans>
        </p>
      ) : null}
    </Part>
  );
}

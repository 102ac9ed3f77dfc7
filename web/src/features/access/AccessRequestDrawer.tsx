/** One request: who asks for what and why, how it was decided, and the buttons of whoever may decide. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button, Group, Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useState } from "react";
import type { AccessRequest, Deed } from "@/api/model";
import { Problem } from "@/ui/Answer";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Unknown, When } from "@/ui/Figure";
import { Notice } from "@/ui/Notice";
import styles from "./access.module.css";
import { DecisionForm } from "./DecisionForm";
import { requestFilters } from "./filters";
import { requestQuery } from "./queries";
import { DEEDS, nameOf, State } from "./words";

export function AccessRequestDrawer() {
  const id = Number(useParams({ from: "/frame/access-requests/$id", select: (params) => params.id }));
  const navigate = useNavigate();
  const request = useQuery(requestQuery(id));
  const close = useCallback(() => void navigate({ to: "/access-requests", search: requestFilters }), [navigate]);
  return (
    <Drawer title={t`Request ${id}`} label={t`Request for access ${id}`} close={close}>
      {request.error ? <Problem error={request.error} again={() => void request.refetch()} /> : null}
      {request.data ? <Details request={request.data} /> : request.error ? null : <Skeleton height={320} />}
    </Drawer>
  );
}

function Details({ request }: { request: AccessRequest }) {
  const [deed, setDeed] = useState<Deed>();
  return (
    <>
      <Part title={t`Asked for`}>
        <Facts
          facts={[
            [
              t`App`,
              request.new_app ? (
                t`${request.app}, made when this is approved`
              ) : (
                <Link key="app" to="/apps/$name" params={{ name: request.app }}>
                  {request.app}
                </Link>
              ),
            ],
            [t`Team`, request.team],
            [
              t`To call`,
              request.routes.length === 0 ? (
                <Unknown key="none" why={t`the routes that were asked for are gone`} />
              ) : (
                request.routes.map((route, at) => (
                  <span key={route}>
                    {at > 0 ? ", " : ""}
                    <Link to="/catalogue/$name" params={{ name: route }}>
                      {route}
                    </Link>
                  </span>
                ))
              ),
            ],
            [t`Needed until`, request.asked_until ? <When key="until" at={request.asked_until} /> : t`for good`],
            [t`Asked by`, nameOf(request.requested_by)],
            [t`Asked`, <When key="at" at={request.created_at} />],
          ]}
        />
        <blockquote className={styles.reason}>{request.reason}</blockquote>
      </Part>
      <Part title={t`Decision`}>
        <Facts
          facts={[
            [t`State`, <State key="state" request={request} />],
            ...(request.decided_at ? ([[t`Decided`, <When key="decided" at={request.decided_at} />]] as const) : []),
            ...(request.decided_at ? ([[t`By`, request.decided_by ? nameOf(request.decided_by) : t`nobody: the service is open to all`]] as const) : []),
            ...(request.state === "approved" || request.state === "expired" ? ([[t`Holds until`, request.expires_at ? <When key="expires" at={request.expires_at} /> : t`for good`]] as const) : []),
          ]}
        />
        {request.decision_reason ? <blockquote className={styles.reason}>{request.decision_reason}</blockquote> : null}
      </Part>
      {request.state === "approved" ? (
        <Notice title={t`The app may call it now`}>
          <Trans>
            Make a key for it in <Link to="/apps/$name" params={{ name: request.app }}>{request.app}</Link>; code that calls each service stands in the catalogue.
          </Trans>
        </Notice>
      ) : null}
      {request.you_may.length > 0 ? (
        <Group gap="xs">
          {request.you_may.map((each) => (
            <Button key={each} variant={each === "approve" ? "filled" : "default"} onClick={() => setDeed(each)}>
              {DEEDS[each]}
            </Button>
          ))}
        </Group>
      ) : null}
      {deed ? <DecisionForm request={request} deed={deed} close={() => setDeed(undefined)} /> : null}
    </>
  );
}

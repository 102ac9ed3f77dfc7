/** One app: what it may call, what it has used, its keys, and where else it may come from or go to. */
import { Skeleton } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback } from "react";
import { RANGES, useRange } from "@/app/range";
import type { App, Cors } from "@/api/model";
import { usageQuery } from "@/features/overview/queries";
import { Spend } from "@/features/overview/Spend";
import { Problem } from "@/ui/Answer";
import { Drawer, Facts, Part } from "@/ui/Drawer";
import { Count, When } from "@/ui/Figure";
import { span } from "@/units/time";
import { Keys } from "./Keys";
import { appQuery } from "./queries";

export function AppDrawer() {
  const { name } = useParams({ from: "/frame/apps/$name" });
  const navigate = useNavigate();
  const app = useQuery(appQuery(name));
  const close = useCallback(() => void navigate({ to: "/apps" }), [navigate]);
  return (
    <Drawer title={name} label={`App ${name}`} close={close}>
      {app.error ? <Problem error={app.error} again={() => void app.refetch()} /> : null}
      {app.data ? <Details app={app.data} /> : app.error ? null : <Skeleton height={320} />}
    </Drawer>
  );
}

function Details({ app }: { app: App }) {
  const range = useRange();
  const used = useQuery(usageQuery("app", range)).data?.find((item) => item.app === app.name);
  const quiet = "no requests in this range";
  return (
    <>
      <Part title="App">
        <Facts
          facts={[
            ["Team", app.team],
            [
              "May call",
              app.routes === "*"
                ? "all routes"
                : app.routes.length === 0
                  ? "nothing yet"
                  : app.routes.map((route, index) => (
                      <span key={route}>
                        {index > 0 ? ", " : ""}
                        <Link to="/routes/$name" params={{ name: route }}>
                          {route}
                        </Link>
                      </span>
                    )),
            ],
            ["Made", <When key="made" at={app.created_at} />],
          ]}
        />
      </Part>
      <Part title={RANGES[range].label}>
        <Facts
          facts={[
            [
              "Requests",
              <Link key="r" to="/requests" search={{ app: app.name }}>
                <Count n={used?.requests} unit="requests" why={quiet} />
              </Link>,
            ],
            ["Tokens in", <Count key="i" n={used?.input_tokens} unit="tokens" why={quiet} />],
            ["Tokens out", <Count key="o" n={used?.output_tokens} unit="tokens" why={quiet} />],
            ["Spend", <Spend key="s" of={used} why={quiet} />],
          ]}
        />
      </Part>
      <Keys app={app} />
      {app.cors ? <WebPages cors={app.cors} /> : null}
      {app.egress.length > 0 || app.sources.length > 0 ? (
        <Part title="Forward proxy and networks">
          <Facts
            facts={[
              ["May reach", app.egress.length > 0 ? <Codes key="egress" texts={app.egress} /> : "nothing by way of the proxy"],
              ["Known by its network", app.sources.length > 0 ? <Codes key="sources" texts={app.sources} /> : "no: by its keys alone"],
            ]}
          />
        </Part>
      ) : null}
    </>
  );
}

/** Which web pages may use the app's keys (CORS). */
function WebPages({ cors }: { cors: Cors }) {
  return (
    <Part title="Web pages that may use its keys">
      <Facts
        facts={[
          ["Origins", <Codes key="origins" texts={cors.origins} />],
          ["Methods", <Codes key="methods" texts={cors.methods} />],
          ["Request headers", <Codes key="headers" texts={cors.headers} />],
          ["Answer headers they may read", cors.expose.length > 0 ? <Codes key="expose" texts={cors.expose} /> : "the safelisted ones"],
          ["Cookies and browser logins", cors.credentials ? "allowed" : "not sent"],
          ["Preflights are remembered", span(cors.max_age)],
        ]}
      />
    </Part>
  );
}

const Codes = ({ texts }: { texts: readonly string[] }) => <code>{texts.join(", ")}</code>;

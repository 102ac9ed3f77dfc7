/** The fields of an app: whose it is, what it may call, which web pages may use its keys, what it may do on the forward proxy. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Autocomplete, MultiSelect, NumberInput, Select, Switch, TagsInput } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useMay, useNameMark } from "@/api/session";
import { routesQuery } from "@/features/routes/queries";
import { More } from "@/ui/More";
import { OwnName } from "@/ui/OwnName";
import { useWrong } from "@/ui/wrong";
import { teamsQuery } from "./queries";
import { METHODS, NO_PAGES, type AppWritten, type CorsWritten } from "./written";

interface AppFieldsProps {
  written: AppWritten;
  change: (part: Partial<AppWritten>) => void;
  /** A team that is not there yet may be named: it is made with the app. */
  anyTeam?: boolean;
}

export function AppFields({ written, change, anyTeam = false }: AppFieldsProps) {
  const platform = useMay()("configuration:write");
  const mark = useNameMark();
  const teams = useQuery(teamsQuery).data?.map((each) => each.name) ?? [];
  const known = useQuery(routesQuery).data?.map((route) => route.name) ?? [];
  const wrong = useWrong();
  const isNew = written.team.trim() !== "" && !teams.includes(written.team.trim());
  return (
    <>
      <OwnName mark={anyTeam ? mark : ""} label={t`App`} description={t`Its requests, cost and limits stand under this name`} required value={written.name} onChange={(event) => change({ name: event.currentTarget.value })} error={wrong("name")} data-autofocus />
      {anyTeam ? (
        <Autocomplete
          label={t`Team`}
          description={isNew && platform ? t`The team “${written.team.trim()}” will be made` : t`Whose app it is`}
          required
          data={teams}
          value={written.team}
          onChange={(team) => change({ team })}
          error={wrong("team")}
        />
      ) : platform ? (
        <Select
          label={t`Team`}
          description={t`In another one it keeps its keys and what it was granted; what its old team still asks for is denied`}
          data={teams}
          value={written.team}
          allowDeselect={false}
          onChange={(team) => change({ team: team ?? "" })}
          error={wrong("team")}
          searchable
        />
      ) : null}
      <Switch label={t`May call all routes, those made later too`} checked={written.all} onChange={(event) => change({ all: event.currentTarget.checked })} />
      {written.all ? null : (
        <MultiSelect
          label={t`May call`}
          data={[...new Set([...known, ...written.routes])]}
          value={[...written.routes]}
          onChange={(routes) => change({ routes })}
          searchable
          clearable
          clearButtonProps={{ "aria-label": t`Take all routes away` }}
          placeholder={written.routes.length === 0 ? t`Routes` : ""}
          error={wrong("routes")}
        />
      )}
      <More title={<Trans>Advanced: web pages, forward proxy</Trans>} fields={["cors", "egress", "sources"]}>
        <Switch
          label={t`Web pages may use its keys`}
          description={t`Whoever can open such a page can read the key: give it a budget of its own`}
          checked={written.cors !== null}
          onChange={(event) => change({ cors: event.currentTarget.checked ? NO_PAGES : null })}
        />
        {written.cors ? <CorsFields cors={written.cors} change={(part) => change({ cors: { ...(written.cors ?? NO_PAGES), ...part } })} /> : null}
        {platform ? (
          <>
            <TagsInput
              label={t`May reach through the forward proxy`}
              description={t`Beside the hosts of its routes`}
              placeholder={written.egress.length === 0 ? "*.example.com:443" : ""}
              value={[...written.egress]}
              onChange={(egress) => change({ egress })}
              error={wrong("egress")}
            />
            <TagsInput
              label={t`Its networks`}
              description={t`Callers from there that show no key are this app's`}
              placeholder={written.sources.length === 0 ? "10.9.0.0/16" : ""}
              value={[...written.sources]}
              onChange={(sources) => change({ sources })}
              error={wrong("sources")}
            />
          </>
        ) : null}
      </More>
    </>
  );
}

function CorsFields({ cors, change }: { cors: CorsWritten; change: (part: Partial<CorsWritten>) => void }) {
  const wrong = useWrong();
  return (
    <>
      <TagsInput
        label={t`Origins`}
        description={t`As browsers write them; * for all`}
        placeholder={cors.origins.length === 0 ? "https://app.example" : ""}
        required
        value={[...cors.origins]}
        onChange={(origins) => change({ origins })}
        error={wrong("cors.origins")}
      />
      <TagsInput label={t`Methods`} data={METHODS} value={[...cors.methods]} onChange={(methods) => change({ methods })} error={wrong("cors.methods")} />
      <TagsInput label={t`Request headers that they may send`} description={t`* for all`} value={[...cors.headers]} onChange={(headers) => change({ headers })} error={wrong("cors.headers")} />
      <TagsInput label={t`Answer headers that they may read`} description={t`Beside the safelisted ones and the gateway's own`} value={[...cors.expose]} onChange={(expose) => change({ expose })} error={wrong("cors.expose")} />
      <NumberInput label={t`Browsers remember the permission for`} suffix=" s" min={0} max={86_400} allowDecimal={false} hideControls value={cors.maxAge} onChange={(value) => change({ maxAge: Number(value) })} error={wrong("cors.max_age")} />
      <Switch label={t`Cookies and browser logins may come along`} description={t`API keys do not need it`} checked={cors.credentials} onChange={(event) => change({ credentials: event.currentTarget.checked })} />
    </>
  );
}

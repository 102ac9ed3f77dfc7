/** Ask that an app may call services; where all of them are open, the answer is there at once. */
import { t } from "@lingui/core/macro";
import { MultiSelect, Select, Textarea } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { sessionQuery, useMay, useNameMark } from "@/api/session";
import { appsQuery, teamsQuery } from "@/features/apps/queries";
import { catalogueQuery } from "@/features/catalogue/queries";
import { EXPIRIES, expiryOf, type Expiry } from "@/ui/expiry";
import { FormDialog } from "@/ui/FormDialog";
import { Mark } from "@/ui/Mark";
import { OwnName, wholeName } from "@/ui/OwnName";
import { ask } from "./queries";

/** No app's name has a slash. */
const NEW = "/new";

export function RequestForm({ routes, app, close }: { routes: readonly string[]; app?: string; close: () => void }) {
  const may = useMay();
  const team = useQuery(sessionQuery).data?.team ?? null;
  const apps = useQuery(appsQuery).data ?? [];
  const teams = useQuery({ ...teamsQuery, enabled: team === null }).data?.map((each) => each.name) ?? [];
  const services = useQuery(catalogueQuery).data ?? [];
  const [chosen, setChosen] = useState<string>(app ?? "");
  const mark = useNameMark();
  const [name, setName] = useState("");
  const [forTeam, setForTeam] = useState("");
  const [wanted, setWanted] = useState<string[]>([...routes]);
  const [reason, setReason] = useState("");
  const [expiry, setExpiry] = useState<Expiry>("never");
  const queries = useQueryClient();
  const navigate = useNavigate();
  const isNew = chosen === NEW || (chosen === "" && apps.length === 0);
  const open = wanted.length > 0 && (!isNew || may("apps:write")) && wanted.every((each) => services.find((service) => service.name === each)?.access === "open");
  return (
    <FormDialog
      title={t`Ask for access`}
      deed={open ? t`Get access` : t`Send the request`}
      complete={wanted.length > 0 && reason.trim() !== "" && (isNew ? name.trim() !== "" && (team !== null || forTeam !== "") : chosen !== "")}
      act={() =>
        ask({
          app: isNew ? wholeName(mark, name) : chosen,
          new_app: isNew,
          ...(isNew && team === null ? { team: forTeam } : {}),
          routes: wanted,
          reason: reason.trim(),
          ...expiryOf(expiry, Date.now()),
        })
      }
      done={async (request) => {
        await Promise.all(["access-requests", "catalogue", "apps"].map((kind) => queries.invalidateQueries({ queryKey: [kind] })));
        close();
        if (request.state === "approved") await navigate({ to: "/apps/$name", params: { name: request.app } });
        else await navigate({ to: "/access-requests/$id", params: { id: String(request.id) } });
      }}
      close={close}
    >
      <MultiSelect
        label={t`Services`}
        required
        data={services.filter((each) => each.access !== "closed").map((each) => ({ value: each.name, label: each.title === each.name ? each.name : `${each.title} (${each.name})` }))}
        value={wanted}
        onChange={setWanted}
        searchable
        maxValues={50}
        placeholder={wanted.length === 0 ? t`Which to call` : ""}
      />
      <Select
        label={t`For which app`}
        description={t`Its keys may then call them`}
        required
        data={[...apps.map((each) => ({ value: each.name, label: team === null ? `${each.name} · ${each.team}` : each.name })), { value: NEW, label: t`A new app…` }]}
        value={isNew ? NEW : chosen || null}
        allowDeselect={false}
        searchable
        onChange={(value) => setChosen(value ?? "")}
      />
      {isNew ? <OwnName mark={mark} label={t`Name of the new app`} description={t`It is made when the request is approved`} required value={name} onChange={(event) => setName(event.currentTarget.value)} /> : null}
      {isNew && team === null ? <Select label={t`Its team`} required data={teams} value={forTeam || null} searchable onChange={(value) => setForTeam(value ?? "")} /> : null}
      <Textarea label={t`What for`} description={t`Whoever decides reads this`} required autosize minRows={2} maxRows={6} value={reason} onChange={(event) => setReason(event.currentTarget.value)} />
      <Select label={t`Until when it is needed`} data={EXPIRIES.map((each) => ({ ...each, label: each.value === "never" ? t`For good` : each.label }))} value={expiry} allowDeselect={false} onChange={(value) => setExpiry(value as Expiry)} />
      {open ? <Mark tone="ok">{t`All of these are open: access is there at once.`}</Mark> : null}
    </FormDialog>
  );
}

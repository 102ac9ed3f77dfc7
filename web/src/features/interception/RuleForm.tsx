/** A rule of interception, new or edited. */
import { t } from "@lingui/core/macro";
import { useQueryClient } from "@tanstack/react-query";
import { useNavigate } from "@tanstack/react-router";
import { useState } from "react";
import { EditForm } from "@/features/publish/EditForm";
import { draftEntry } from "@/features/publish/queries";
import { FormDialog } from "@/ui/FormDialog";
import { changeRule, interceptionQuery, makeRule, ruleQuery, rulesQuery, type Rule } from "./queries";
import { RuleFields } from "./RuleFields";
import { isComplete, NEW, RULE, wantedOf, type RuleWritten } from "./written";

/** What shows rules, or depends on them: whoever terminates TLS needs the authority. */
const SHOWN = [rulesQuery.queryKey, interceptionQuery.queryKey, ["authority"]];

export function RuleForm({ close }: { close: () => void }) {
  const [written, setWritten] = useState<RuleWritten>(NEW);
  const queries = useQueryClient();
  const navigate = useNavigate();
  const name = written.name.trim();
  return (
    <FormDialog
      title={t`Add a rule`}
      deed={name ? t`Add ${name}` : t`Add the rule`}
      complete={isComplete(written)}
      act={() => makeRule(wantedOf(written))}
      draft={() => draftEntry("interception-rule", name, { ...wantedOf(written) }, "none")}
      done={async (rule) => {
        await Promise.all(SHOWN.map((queryKey) => queries.invalidateQueries({ queryKey })));
        close();
        await navigate({ to: "/interception/rules/$name", params: { name: rule.name }, search: (old) => old });
      }}
      close={close}
    >
      <RuleFields written={written} change={(part) => setWritten({ ...written, ...part })} />
    </FormDialog>
  );
}

export function RuleEditForm({ rule, close }: { rule: Rule; close: () => void }) {
  const queries = useQueryClient();
  const navigate = useNavigate();
  return (
    <EditForm
      shape={RULE}
      thing={rule}
      save={(version, patch) => changeRule(rule.id, version, patch)}
      reread={() => queries.fetchQuery({ ...ruleQuery(rule.id), staleTime: 0 })}
      shown={SHOWN}
      done={(saved) => navigate({ to: "/interception/rules/$name", params: { name: saved.name }, search: (old) => old })}
      complete={isComplete}
      close={close}
    >
      {(written, change) => <RuleFields written={written} change={change} />}
    </EditForm>
  );
}

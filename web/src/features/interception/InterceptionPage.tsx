/** What is caught in this host's kernel, and what is not, and why. */
import { t } from "@lingui/core/macro";
import { Trans } from "@lingui/react/macro";
import { Button } from "@mantine/core";
import { IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useNavigate, useParams } from "@tanstack/react-router";
import { useCallback, useMemo } from "react";
import { useAdding } from "@/app/adding";
import { useMay } from "@/api/session";
import { Empty } from "@/ui/Answer";
import { DataTable, type Column } from "@/ui/DataTable";
import { Ago, Count, Unknown } from "@/ui/Figure";
import { Page } from "@/ui/Page";
import { AgentMark, Missing, Watch } from "./Agent";
import styles from "./interception.module.css";
import { interceptionQuery, rulesQuery, type Rule, type RuleState } from "./queries";
import { RuleForm } from "./RuleForm";
import { Tabs } from "./Tabs";
import { destinationsOf, MODE_WORDS, sourcesOf, StateMark } from "./words";

interface Row {
  rule: Rule;
  state: RuleState | undefined;
  /** Why there is no state, where the gateway has not said how rules stand. */
  unasked: string | undefined;
}

const WHY = t`counted by the agent, which is away`;

const COLUMNS: readonly Column<Row>[] = [
  {
    id: "name",
    header: t`Rule`,
    sortBy: ({ rule }) => rule.name,
    cell: ({ rule }) => (
      <Link to="/interception/rules/$name" params={{ name: rule.name }} search={(old) => old}>
        {rule.name}
      </Link>
    ),
  },
  { id: "to", header: t`Connections to`, cell: ({ rule }) => <code className={styles.cut} title={destinationsOf(rule)}>{destinationsOf(rule)}</code> },
  { id: "from", header: t`Of`, hide: "tablet", cell: ({ rule }) => <span className={styles.cut} title={sourcesOf(rule)}>{sourcesOf(rule)}</span> },
  { id: "mode", header: t`Mode`, hide: "phone", cell: ({ rule }) => MODE_WORDS[rule.mode] },
  { id: "captured", header: t`Captured`, number: true, hide: "phone", cell: ({ state, unasked }) => <Count n={state?.captured} unit={t`connections`} why={unasked ?? WHY} /> },
  { id: "passed", header: t`Passed`, number: true, hide: "phone", cell: ({ state, unasked }) => <Count n={state?.passed} unit={t`connections`} why={unasked ?? WHY} /> },
  { id: "denied", header: t`Denied`, number: true, hide: "tablet", cell: ({ state, unasked }) => <Count n={state?.denied} unit={t`connections`} why={unasked ?? WHY} /> },
  { id: "bypassed", header: t`Bypassed`, number: true, hide: "tablet", cell: ({ state, unasked }) => <Count n={state?.bypassed} unit={t`connections`} why={unasked ?? WHY} /> },
  { id: "canary", header: t`Last canary`, hide: "tablet", cell: ({ state, unasked }) => <Ago at={state?.last_canary} why={unasked ?? (state?.mode === "govern" ? t`none has come through yet` : t`only governed connections have one`)} /> },
  { id: "state", header: t`State`, cell: ({ state, unasked }) => (unasked ? <Unknown why={unasked} /> : <StateMark state={state} />) },
];

export function InterceptionPage() {
  const rules = useQuery(rulesQuery);
  const standing = useQuery(interceptionQuery);
  const may = useMay()("configuration:write");
  const [adding, setAdding] = useAdding();
  const navigate = useNavigate();
  const openId = useParams({ strict: false, select: (params) => params.name });
  const open = useCallback(({ rule }: Row) => void navigate({ to: "/interception/rules/$name", params: { name: rule.name }, search: (old) => old }), [navigate]);
  const unasked = standing.data ? undefined : (standing.error?.message ?? t`loading`);
  const rows = useMemo(() => rules.data?.map((rule) => ({ rule, state: standing.data?.rules.find((each) => each.rule === rule.name), unasked })), [rules.data, standing.data, unasked]);
  const add = may ? (
    <Button leftSection={<IconPlus size={16} />} onClick={() => setAdding(true)}>
      <Trans>Add a rule</Trans>
    </Button>
  ) : null;
  return (
    <Page
      title={t`Interception`}
      line={t`What is caught in this host's kernel, what is not, and why.`}
      fill
      action={
        <>
          {standing.data ? <AgentMark state={standing.data} /> : null}
          {rows && rows.length > 0 ? add : null}
        </>
      }
    >
      <Tabs here="/interception" />
      {standing.data ? <Missing state={standing.data} /> : null}
      {standing.data ? <Watch state={standing.data} /> : null}
      <DataTable
        label={t`Rules`}
        columns={COLUMNS}
        rows={rows}
        rowId={({ rule }) => rule.name}
        error={rules.error}
        again={() => void rules.refetch()}
        open={open}
        openId={openId}
        dense
        fill
        empty={
          <Empty
            title={t`No rule catches anything`}
            why={t`A rule names destinations, such as api.openai.com, and whose connections there are counted, led through routes and limits, or refused. Programs change nothing.`}
            action={add}
          />
        }
      />
      {adding && add ? <RuleForm close={() => setAdding(false)} /> : null}
      <Outlet />
    </Page>
  );
}

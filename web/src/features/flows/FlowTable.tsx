/** The same as a table: each path a row, for who would rather read, sort and copy. */
import { t } from "@lingui/core/macro";
import type { FlowPath } from "@/api/model";
import { DataTable, type Column } from "@/ui/DataTable";
import { Count, Money, Unknown } from "@/ui/Figure";
import { bytes, share } from "@/units/count";

interface PathRow extends FlowPath {
  id: string;
}

const sourceOf = (path: FlowPath): string => path.process ?? path.key ?? "";

const columns = (): readonly Column<PathRow>[] => [
  {
    id: "source",
    header: t`Process or client`,
    sortBy: sourceOf,
    cell: (path) =>
      path.process ? (
        <span title={[path.user, path.container].filter(Boolean).join(", ")}>{path.process}</span>
      ) : path.key ? (
        t`key ${path.key}`
      ) : (
        <Unknown why={t`known by its address`} />
      ),
  },
  { id: "app", header: t`App`, sortBy: (path) => path.app ?? "", cell: (path) => path.app },
  { id: "route", header: t`Route`, hide: "phone", sortBy: (path) => path.route ?? "", cell: (path) => (path.route ? <code>{path.route}</code> : <Unknown why={t`no route fitted`} />) },
  { id: "target", header: t`Target`, hide: "tablet", sortBy: (path) => path.target ?? "", cell: (path) => (path.target ? <code>{path.target}</code> : <Unknown why={t`nothing went upstream`} />) },
  { id: "requests", header: t`Requests`, number: true, hide: "phone", sortBy: (path) => path.requests, cell: (path) => <Count n={path.requests} unit={t`requests`} /> },
  { id: "tokens", header: t`Tokens`, number: true, sortBy: (path) => path.input_tokens + path.output_tokens, cell: (path) => <Count n={path.input_tokens + path.output_tokens} unit={t`tokens`} /> },
  { id: "cost", header: t`Cost`, number: true, hide: "phone", sortBy: (path) => path.cost_usd_micros, cell: (path) => (path.unpriced > 0 && path.cost_usd_micros === 0 ? <Unknown why={t`no price is known for this model`} /> : <Money micros={path.cost_usd_micros} />) },
  {
    id: "bytes",
    header: t`Bytes`,
    number: true,
    hide: "tablet",
    sortBy: (path) => path.bytes ?? -1,
    cell: (path) => (path.bytes === null ? <Unknown why={t`not measured by the kernel`} /> : `${path.bytes_estimated ? "≈ " : ""}${bytes(path.bytes)}`),
  },
  { id: "errors", header: t`Errors`, number: true, sortBy: (path) => path.errors / path.requests, cell: (path) => share(path.errors / path.requests) },
];

export function FlowTable({ paths }: { paths: readonly FlowPath[] }) {
  const rows = paths.map((path) => ({ ...path, id: [path.process, path.user, path.container, path.team, path.app, path.key, path.route, path.target, path.provider].join(" ") }));
  return <DataTable label={t`Paths`} columns={columns()} rows={rows} rowId={(row) => row.id} empty={t`No request fits.`} dense />;
}

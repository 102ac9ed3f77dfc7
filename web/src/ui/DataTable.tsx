/** The one table: loading, empty, error, sorting in the URL, paging by key, virtual rows, and the keyboard. */
import { t } from "@lingui/core/macro";
import { Skeleton } from "@mantine/core";
import { IconArrowDown, IconArrowUp } from "@tabler/icons-react";
import { createSortedRowModel, rowSortingFeature, sortFn_alphanumeric, tableFeatures, useTable, type ColumnDef } from "@tanstack/react-table";
import { useNavigate, useSearch } from "@tanstack/react-router";
import { lazy, Suspense, useMemo, useRef, type KeyboardEvent, type ReactNode } from "react";
import { Problem } from "./Answer";
import { enterDrawer } from "./Drawer";
import styles from "./DataTable.module.css";
import type { View } from "./VirtualRows";

export interface Column<Row> {
  id: string;
  header: string;
  /** Under the header, small: which percentile, which unit. */
  note?: string;
  cell: (row: Row) => ReactNode;
  /** Text of more than a line, written out; not for tables that fill the page, whose rows have one height. */
  wrap?: boolean;
  /** Right-aligned, tabular: all numbers. */
  number?: boolean;
  /** Left out where there is no room for it. */
  hide?: "phone" | "tablet";
  /** What the column sorts by; only for lists that are here as a whole. */
  sortBy?: (row: Row) => string | number;
  /** CSS width; the rest is shared. */
  width?: string;
}

interface DataTableProps<Row> {
  label: string;
  columns: readonly Column<Row>[];
  rows: readonly Row[] | undefined;
  rowId: (row: Row) => string;
  error?: unknown;
  again?: () => void;
  empty: ReactNode;
  open?: ((row: Row) => void) | undefined;
  openId?: string | undefined;
  more?: (() => void) | undefined;
  loadingMore?: boolean;
  /** Narrow gaps between columns, for tables of many figures. */
  dense?: boolean;
  /** Takes the height that is left and scrolls inside. */
  fill?: boolean;
}

const features = tableFeatures({
  rowSortingFeature,
  sortedRowModel: createSortedRowModel(),
  sortFns: { alphanumeric: sortFn_alphanumeric },
});
type Features = typeof features;

const VirtualRows = lazy(() => import("./VirtualRows"));
/** Until the rows of a long table can be drawn. */
const NOTHING: View = { items: [], before: 0, after: 0, show: () => undefined };

export function DataTable<Row extends object>(props: DataTableProps<Row>) {
  const { label, columns, rows, rowId, error, again, empty, open, openId, more, loadingMore = false, dense = false, fill = false } = props;
  const navigate = useNavigate();
  const search: { sort?: string } = useSearch({ strict: false });
  const sorting = useMemo(() => sortingOf(search.sort, columns), [search.sort, columns]);
  const definitions = useMemo(() => columns.map(definition), [columns]);
  const data = useMemo(() => [...(rows ?? [])], [rows]);
  const table = useTable({ features, columns: definitions, data, getRowId: rowId, state: { sorting } });
  const shown = table.getRowModel().rows;

  const scroller = useRef<HTMLDivElement>(null);
  const openAt = shown.findIndex((row) => row.id === openId);

  function turn(column: Column<Row>): void {
    const present = sorting[0];
    const next = present?.id !== column.id ? column.id : present.desc ? undefined : `${column.id}.desc`;
    void navigate({ to: ".", search: (old: Record<string, unknown>) => ({ ...old, sort: next }), replace: true });
  }

  function onKey(event: KeyboardEvent<HTMLTableSectionElement>, view: View): void {
    if (event.target instanceof HTMLElement && event.target.closest("button, input, select, textarea")) return;
    if (event.key === "Enter" && event.target instanceof HTMLElement && event.target.closest("a")) return;
    const focused = event.target instanceof HTMLElement ? event.target.closest("tr")?.dataset["index"] : undefined;
    const at = focused === undefined ? openAt : Number(focused);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const row = shown[at + (event.key === "ArrowDown" ? 1 : -1)];
      if (!row) return;
      event.preventDefault();
      view.show(row.index);
      const drawn = (): HTMLElement | null | undefined => scroller.current?.querySelector<HTMLElement>(`tr[data-id="${CSS.escape(row.id)}"]`);
      if (drawn()) drawn()?.focus();
      else requestAnimationFrame(() => drawn()?.focus());
      if (openId !== undefined) open?.(row.original);
    } else if (event.key === "Enter" && open) {
      const row = shown[at];
      if (!row) return;
      if (row.id !== openId) open(row.original);
      enterDrawer();
    }
  }

  // What was loaded before stays: that it could not be loaded anew is said above the page.
  if (error && rows === undefined) return <Problem error={error} {...(again ? { again } : {})} />;
  if (rows?.length === 0) return <div className={styles.none}>{empty}</div>;

  const draw = (view: View): ReactNode => (
    <div ref={scroller} className={fill ? `${styles.scroll} ${styles.fill}` : styles.scroll} tabIndex={fill && !open ? 0 : -1} {...(fill && !open ? { role: "region", "aria-label": label } : {})}>
      <table className={styles.table} data-dense={dense || undefined} aria-label={label} aria-busy={rows === undefined || view === NOTHING}>
        <thead>
          <tr>
            {columns.map((column) => {
              const turned = sorting[0]?.id === column.id ? sorting[0] : undefined;
              return (
                <th
                  key={column.id}
                  scope="col"
                  data-number={column.number}
                  data-hide={column.hide}
                  style={column.width ? { width: column.width } : undefined}
                  aria-sort={turned ? (turned.desc ? "descending" : "ascending") : undefined}
                >
                  {column.sortBy ? (
                    <button type="button" className={styles.sort} onClick={() => turn(column)}>
                      {column.header}
                      {turned ? turned.desc ? <IconArrowDown size={13} /> : <IconArrowUp size={13} /> : null}
                    </button>
                  ) : (
                    column.header || <span className="unseen">{t`Actions`}</span>
                  )}
                  {column.note ? <span className={styles.note}>{column.note}</span> : null}
                </th>
              );
            })}
          </tr>
        </thead>
        <tbody onKeyDown={(event) => onKey(event, view)}>
          {rows === undefined ? <Loading columns={columns} /> : null}
          {view.before > 0 ? <Gap px={view.before} columns={columns.length} /> : null}
          {view.items.map((index) => {
            const row = shown[index];
            if (!row) return null;
            const isOpen = row.id === openId;
            return (
              <tr
                key={row.id}
                data-index={index}
                data-id={row.id}
                data-opens={open !== undefined}
                aria-current={isOpen || undefined}
                tabIndex={open && (isOpen || (openAt < 0 && index === 0)) ? 0 : -1}
                onClick={(event) => {
                  if (open && !(event.target as HTMLElement).closest("a, button")) open(row.original);
                }}
              >
                {columns.map((column) => (
                  <td key={column.id} data-number={column.number} data-hide={column.hide} data-wrap={column.wrap}>
                    {column.cell(row.original)}
                  </td>
                ))}
              </tr>
            );
          })}
          {view.after > 0 ? <Gap px={view.after} columns={columns.length} /> : null}
        </tbody>
      </table>
      {loadingMore ? <p className={styles.more}>{t`Loading older rows…`}</p> : null}
    </div>
  );

  if (!fill) return draw({ items: shown.map((_, index) => index), before: 0, after: 0, show: () => undefined });
  return (
    <Suspense fallback={draw(NOTHING)}>
      <VirtualRows count={shown.length} scroller={scroller} openAt={openAt} more={loadingMore ? undefined : more}>
        {draw}
      </VirtualRows>
    </Suspense>
  );
}

function definition<Row extends object>(column: Column<Row>): ColumnDef<Features, Row> {
  return {
    id: column.id,
    header: column.header,
    accessorFn: column.sortBy ?? (() => ""),
    enableSorting: column.sortBy !== undefined,
    sortFn: "alphanumeric",
  };
}

function sortingOf<Row>(written: string | undefined, columns: readonly Column<Row>[]): { id: string; desc: boolean }[] {
  if (!written) return [];
  const desc = written.endsWith(".desc");
  const id = desc ? written.slice(0, -".desc".length) : written;
  return columns.some((column) => column.id === id && column.sortBy) ? [{ id, desc }] : [];
}

function Gap({ px, columns }: { px: number; columns: number }) {
  return (
    <tr aria-hidden className={styles.gap}>
      <td colSpan={columns} style={{ height: px }} />
    </tr>
  );
}

function Loading<Row>({ columns }: { columns: readonly Column<Row>[] }) {
  return Array.from({ length: 6 }, (_, index) => (
    <tr key={index} aria-hidden>
      {columns.map((column) => (
        <td key={column.id} data-number={column.number} data-hide={column.hide}>
          <Skeleton height={10} width={column.number ? 48 : "70%"} className={styles.bone ?? ""} />
        </td>
      ))}
    </tr>
  ));
}

/** Which rows of a long table are drawn: those in sight and some around them. Apart, so that only long tables load it. */
import { useVirtualizer } from "@tanstack/react-virtual";
import { useEffect, type ReactNode, type RefObject } from "react";

export const ROW_PX = 36;

/** What of its rows a table draws. */
export interface View {
  items: readonly number[];
  /** Height of what is not drawn, in px. */
  before: number;
  after: number;
  /** Brings a row into sight. */
  show: (index: number) => void;
}

interface VirtualRowsProps {
  count: number;
  scroller: RefObject<HTMLDivElement | null>;
  /** The row that stays in sight; -1: none. */
  openAt: number;
  /** Asked for when the end comes near. */
  more: (() => void) | undefined;
  children: (view: View) => ReactNode;
}

export default function VirtualRows({ count, scroller, openAt, more, children }: VirtualRowsProps) {
  const virtual = useVirtualizer({ count, getScrollElement: () => scroller.current, estimateSize: () => ROW_PX, overscan: 12 });
  const items = virtual.getVirtualItems().map((item) => item.index);
  const last = items.at(-1) ?? -1;
  useEffect(() => {
    if (more && count > 0 && last >= count - 20) more();
  }, [more, last, count]);
  useEffect(() => {
    if (openAt >= 0) virtual.scrollToIndex(openAt, { align: "auto" });
  }, [openAt, virtual]);
  return children({
    items,
    before: (items[0] ?? 0) * ROW_PX,
    after: Math.max(0, count - 1 - last) * ROW_PX,
    show: (index) => virtual.scrollToIndex(index, { align: "auto" }),
  });
}

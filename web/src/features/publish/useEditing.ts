/** What each form that edits a thing holds: how it was, what somebody has made of it, and what others have made of it meanwhile. */
import { useRef, useState } from "react";
import { patchOf, type Fields } from "./patch";
import type { DraftKind } from "./queries";

/** A thing as the API shows it. */
export interface Standing {
  name: string;
  version: number;
}

/** How things of a kind go from the API into a form and back. */
export interface Shape<Written> {
  kind: DraftKind;
  /** From the API's view of a thing, or from its entry of the draft, which leaves out what is as usual. */
  read: (source: Fields) => Written;
  /** The fields that the form is about, as the API takes them. Secrets only where somebody wrote one. */
  wanted: (written: Written) => Fields;
  /** Fields that the API takes whole or not at all. */
  whole?: readonly string[];
  /** A field's value as it may be shown: without secrets, not even one's own. */
  shown?: (value: unknown) => unknown;
}

/** A thing's entry of the draft. */
export interface Drafted {
  entry: Fields;
  etag: string;
  drafted: boolean;
}

/** Which state of a thing has been seen: of what is in force, of the draft's entry. */
export interface Seen {
  version?: number;
  etag?: string;
}

export interface Editing<Written> {
  written: Written;
  change: (part: Partial<Written>) => void;
  /** What is different from what the form began with: for the draft. */
  changes: Fields;
  /** What is different from what is in force, what was drafted before included: for putting it into force at once. */
  direct: Fields;
  /** Whether there is anything to save. */
  touched: boolean;
  /** As it was seen last; asked for when it is saved, not drawn. */
  seen: () => Required<Pick<Seen, "version">> & Seen;
  /** Go on with what is written, over what is there now. */
  keep: (now: Seen) => void;
  /** Begin anew with what is there now. */
  take: (theirs: Written, now: Seen) => void;
}

/** `entry`: the draft's, where the one who edits may have one. */
export function useEditing<Written>(shape: Shape<Written>, thing: Standing, entry: Drafted | undefined): Editing<Written> {
  const [base, setBase] = useState(() => shape.read(entry?.entry ?? { ...thing }));
  const [written, setWritten] = useState(base);
  // As it was when the form was opened: what others change meanwhile is no change of ours.
  const [inForce, setInForce] = useState(() => shape.read({ ...thing }));
  const seen = useRef<Required<Pick<Seen, "version">> & Seen>({ version: thing.version, ...(entry ? { etag: entry.etag } : {}) });
  const wanted = shape.wanted(written);
  const changes = patchOf(shape.wanted(base), wanted, shape.whole);
  const direct = patchOf(shape.wanted(inForce), wanted, shape.whole);
  return {
    written,
    change: (part) => setWritten((before) => ({ ...before, ...part })),
    changes,
    direct,
    touched: Object.keys(entry?.drafted ? direct : changes).length > 0,
    seen: () => seen.current,
    keep: (now) => {
      seen.current = { ...seen.current, ...now };
    },
    take: (theirs, now) => {
      seen.current = { ...seen.current, ...now };
      setBase(theirs);
      if (now.version !== undefined) setInForce(theirs);
      setWritten(theirs);
    },
  };
}

/** One side of the playground: a call under way or ended, with its text as it arrives. */
import { useCallback, useEffect, useRef, useState } from "react";
import { SPEECH, refusalOf, type ModelDialect, type Wire } from "./dialects";
import { keyFor } from "./queries";
import { call, type Head } from "./stream";

export interface Play {
  state: "idle" | "running" | "ended" | "stopped" | "failed";
  text: string;
  head: Head | null;
  /** Of the browser: since the call was made. */
  firstMs: number | null;
  endMs: number | null;
  /** What an answer of 400 and above says. */
  refusal: string | null;
  /** What kept us from an answer. */
  error: unknown;
}

export interface Sent {
  wire: Wire;
  dialect: ModelDialect | null;
  key: { app: string; route: string; target: string | null };
}

const IDLE: Play = { state: "idle", text: "", head: null, firstMs: null, endMs: null, refusal: null, error: null };

export interface Side {
  play: Play;
  send: (sent: Sent) => void;
  stop: () => void;
  clear: () => void;
}

export function usePlay(): Side {
  const [play, setPlay] = useState<Play>(IDLE);
  const under = useRef<AbortController | null>(null);
  const stop = useCallback(() => under.current?.abort(), []);
  useEffect(() => stop, [stop]); // who leaves the page stops its calls, and pays no more for them

  const send = useCallback((sent: Sent) => {
    under.current?.abort();
    const control = new AbortController();
    under.current = control;
    const change = (part: Partial<Play>): void => {
      if (under.current === control) setPlay((play) => ({ ...play, ...part }));
    };
    setPlay({ ...IDLE, state: "running" });
    void run(sent, control.signal, change);
  }, []);

  const clear = useCallback(() => {
    under.current?.abort();
    under.current = null;
    setPlay(IDLE);
  }, []);
  return { play, send, stop, clear };
}

async function run({ wire, dialect, key }: Sent, signal: AbortSignal, change: (part: Partial<Play>) => void): Promise<void> {
  let text = "";
  let frame = 0;
  let began = performance.now();
  let first: number | null = null;
  const add = (more: string): void => {
    if (more === "") return;
    if (first === null) {
      first = performance.now() - began;
      change({ firstMs: first });
    }
    text += more;
    // Events come faster than screens are drawn.
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      change({ text });
    });
  };
  try {
    const secret = await keyFor(key);
    signal.throwIfAborted();
    let failed = false;
    await call(
      wire,
      secret,
      {
        head: (head) => {
          began = performance.now() - head.afterMs;
          failed = head.status >= 400;
          change({ head });
        },
        event: (event) => add(dialect === null ? `${String(event)}\n` : SPEECH[dialect].text(event)),
        whole: (body) => {
          if (failed) change({ refusal: refusalOf(body) });
          else add(wholeText(dialect, body));
        },
      },
      signal,
    );
    change({ state: failed ? "failed" : "ended", text, endMs: performance.now() - began });
  } catch (error) {
    change(signal.aborted ? { state: "stopped", text, endMs: performance.now() - began } : { state: "failed", text, error });
  } finally {
    cancelAnimationFrame(frame);
  }
}

/** The text of an answer; where there is none in it, the answer as it came. */
function wholeText(dialect: ModelDialect | null, body: string): string {
  try {
    const parsed: unknown = JSON.parse(body);
    return (dialect !== null && SPEECH[dialect].text(parsed)) || JSON.stringify(parsed, null, 2);
  } catch {
    return body;
  }
}

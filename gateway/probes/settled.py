"""Whether a process is, for certain, in the midst of no execve(2).

The kernel gives a process its new executable some time before its tracepoint `sched_process_exec` says so; how long can
be in the hands of whoever executes (files that are closed, pages that are read). What /proc told of the executable
therefore holds only once the process has been seen outside execve afterwards, and no such event has come by then.

By then all threads but one are gone, and that one has the number of the process (de_thread, fs/exec.c): a second thread
proves that there is none. Of a single one it is that it sleeps (state S) once its code has a beginning: load_elf_binary
(fs/binfmt_elf.c) sets that behind all that it may wait for.
"""

import os
from pathlib import Path


def settled(pid: int) -> bool:
    """False: it cannot be told at this moment, as of a process that runs."""
    folder = Path(f"/proc/{pid}")
    try:
        with os.scandir(folder / "task") as threads:
            if any(thread.name != str(pid) for thread in threads):
                return True
        return int(_stat(folder)[23]) > 1 and _stat(folder)[0] == b"S"  # one after the other
    except OSError:
        return False


def _stat(folder: Path) -> list[bytes]:
    """From field 3 of proc(5) stat: the state; [23] is startcode, 0 or 1 where it is not to be known."""
    text = (folder / "stat").read_bytes()
    return text[text.rindex(b")") + 2 :].split()

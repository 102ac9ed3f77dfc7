"""Work as the owner of the data folder: what root's CLI makes there, the service must be able to use."""

import os
import pwd
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway import privileges
from gateway.cli.output import fail


def become_owner(folder: Path, *, keeping: Iterable[int] = ()) -> None:
    """Take the user, groups and home of `folder`'s owner, for good. What we write from then on is theirs alone.

    Of root's capabilities those in `keeping` stay, where we have them. No identity changes unless we are root and the
    folder belongs to someone else. A folder of another user's that we may not enter ends the command with what to do.
    """
    os.umask(0o077)
    try:
        owner_id = folder.stat().st_uid
    except FileNotFoundError:
        return
    if os.geteuid() == owner_id:
        return
    try:
        owner = pwd.getpwuid(owner_id)
        name, group_id, home = owner.pw_name, owner.pw_gid, owner.pw_dir
    except KeyError:  # as a container's user on its host
        name, group_id, home = None, folder.stat().st_gid, ""
    shown = name or f"user id {owner_id}"
    if os.geteuid() != 0:
        if os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return
        fail(
            f"{folder} belongs to {shown}",
            fix=f"run this as {shown} or with sudo, or name your own folder (--data) or a gateway (--url)",
        )
    privileges.change_user(owner_id, group_id, name, keeping=keeping)
    home = home if home and Path(home).is_dir() else str(folder)  # service users have none
    os.environ.update(HOME=home, USER=shown, LOGNAME=shown)
    os.chdir("/")  # libraries look around the working folder, which may be root's


def as_owner(folder: Path, work: Callable[[], None]) -> int:
    """Do `work` as the owner of `folder` and stay who we are, for what needs both. Returns an exit code, 0 = done.

    Where the owner is another, a child process becomes it; what goes wrong there, the child has told already.
    """
    if os.geteuid() == folder.stat().st_uid or os.geteuid() != 0:
        become_owner(folder)
        work()
        return 0
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        become_owner(folder)
        work()
        code = 0
    except Exception as error:  # noqa: BLE001 - the parent knows nothing but the exit code
        from gateway.cli.failures import explain

        code = explain(error)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def caller_name() -> str:
    """Who runs this command, for the audit log: the person behind sudo rather than root."""
    behind = os.environ.get("SUDO_USER")
    if behind:
        return behind
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in many containers
        return f"uid-{os.getuid()}"

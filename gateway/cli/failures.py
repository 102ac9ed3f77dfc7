"""What went wrong, in a person's words: every error that a command may end in, with what mends it."""

import os
import traceback

from gateway.cli.output import complain, note
from gateway.errors import SluicegateError


def explain(error: Exception) -> int:
    """Print `error` on stderr. Returns the exit code."""
    if isinstance(error, SluicegateError):
        complain(error.message, fix=error.fix)
        problems = error.fields.get("errors") or []
        if len(problems) > 1 and "\n" not in error.message:  # else the message tells them all
            _list_problems(problems)
        return 1
    if isinstance(error, OSError) and error.filename is not None:
        complain(f"{error.filename}: {error.strerror}")
        return 1
    known = _from_library(error)
    if known is not None:
        message, fix = known
        complain(message, fix=fix)
        return 1
    if os.environ.get("SLUICEGATE_TRACEBACK"):
        traceback.print_exception(error)
    complain(
        f"{type(error).__name__}: {error}",
        fix="run it again with SLUICEGATE_TRACEBACK=1 and report what it prints; `sluicegate doctor` checks this host",
    )
    return 1


def _list_problems(problems: object) -> None:
    """The single problems of a refused document: `fields["errors"]` of `errors.Invalid`."""
    if not isinstance(problems, list):
        return
    for problem in problems:
        if isinstance(problem, dict):
            where = ":".join(str(problem[part]) for part in ("file", "line") if problem.get(part) is not None)
            field = problem.get("field") or ""
            said = problem.get("problem") or problem.get("detail") or ""
            remedy = problem.get("remedy") or problem.get("fix") or ""
            note(" ".join(part for part in ("  -", f"{where}:" if where else "", str(field), str(said)) if part))
            if remedy:
                note(f"      {remedy}")


def _from_library(error: Exception) -> tuple[str, str] | None:
    """Message and fix for errors of SQLAlchemy and Pydantic, without importing either where it was not in use."""
    module = type(error).__module__
    if module.startswith("sqlalchemy"):
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        return f"the database refused: {cause}", "sluicegate doctor"
    if module.startswith("pydantic"):
        listed = getattr(error, "errors", None)
        if callable(listed):
            parts = [f"{'.'.join(str(step) for step in item['loc'])}: {item['msg']}" for item in listed()]
            return "; ".join(
                parts
            ), "see `sluicegate serve --help`; settings also come from SLUICEGATE_… and sluicegate.toml"
    return None

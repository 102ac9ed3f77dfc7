"""Help that teaches, at once; wrong usage is told from refusal by the exit code."""

import resource

import pytest

from gateway.cli.app import app
from gateway.cli.state_commands import RoleName
from gateway.policy.roles import Role
from tests.support.cli import Cli

COMMANDS = [
    ["serve"],
    ["agent"],
    ["intercept", "status"],
    ["intercept", "up"],
    ["intercept", "down"],
    ["intercept", "flows"],
    ["demo"],
    ["doctor"],
    ["backup"],
    ["restore"],
    ["apply"],
    ["export"],
    ["usage"],
    ["top"],
    ["explain"],
    ["service", "start"],
    ["service", "upgrade"],
    ["service", "stop"],
    ["service", "status"],
    ["service", "logs"],
    ["key", "create"],
    ["key", "list"],
    ["key", "revoke"],
    ["token", "create"],
    ["token", "list"],
    ["token", "revoke"],
    ["user", "passwd"],
    ["user", "bootstrap"],
    ["import", "litellm"],
    ["ledger", "list"],
    ["ledger", "export"],
    ["ledger", "prune"],
    ["trace", "exec"],
    ["trace", "connect"],
    ["trace", "dns"],
    ["trace", "http"],
    ["discoveries", "list"],
    ["discoveries", "coverage"],
    ["discoveries", "show"],
    ["discoveries", "observe"],
    ["discoveries", "govern"],
    ["discoveries", "deny"],
    ["discoveries", "ignore"],
    ["denials", "list"],
    ["denials", "add"],
    ["denials", "remove"],
    ["alerts"],
    ["ca", "create"],
    ["ca", "renew"],
    ["ca", "export"],
    ["ca", "trust"],
    ["ca", "untrust"],
    ["ca", "status"],
    ["ca", "remove"],
    ["audit", "verify"],
    ["audit", "export"],
    ["sealing", "rotate"],
    ["admin", "reset"],
    ["prices", "update"],
]


def test_help_comes_at_once(sqlite_cli: Cli) -> None:
    """Counted in CPU time, which a busy machine does not stretch much: no library that `--help` can do without."""
    took = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        sqlite_cli("--help").ok()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(took) < 0.5, took


def test_the_first_page_names_every_command(sqlite_cli: Cli) -> None:
    text = sqlite_cli("--help").ok().out
    for words in COMMANDS:
        assert f" {words[0]} " in text
    assert len(app.registered_commands) + len(app.registered_groups) == len({words[0] for words in COMMANDS}) + 1


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(sqlite_cli: Cli, words: list[str]) -> None:
    text = sqlite_cli(*words, "--help").ok().out
    assert "Usage: sluicegate" in text
    assert "Traceback" not in text


def test_wrong_usage_is_2_and_changes_nothing(sqlite_cli: Cli) -> None:
    said = sqlite_cli("aply")
    assert said.code == 2
    assert "apply" in said.err
    assert sqlite_cli("token", "create", "--role", "emperor").code == 2
    assert sqlite_cli("serve", "--listen", "here").code == 1
    assert not sqlite_cli.data.exists()


def test_roles_are_those_of_the_policy() -> None:
    assert [*map(str, RoleName)] == [*map(str, Role)]

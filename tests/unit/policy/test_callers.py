"""Whom a rule lets in by what the kernel says (gateway/policy/callers.py)."""

from dataclasses import replace

import pytest

from gateway.policy.callers import Attested, CallerClaim, app_of, attested, unit_of

ID = "0123456789ab" + "c" * 52
WHO = Attested(
    marks=(),
    executable="/usr/bin/indexer",
    sha256="a" * 64,
    uid=1001,
    user="indexer",
    cgroup="/system.slice/indexer.service/workers",
    container=ID,
    container_name="crawler",
    image="registry.example/crawler:3",
    labels=("team=search", "tier=batch"),
)
FITTING = (
    {"executable": "/usr/bin/indexer"},
    {"sha256": "a" * 64},
    {"executable": "/usr/bin/indexer", "sha256": "a" * 64, "user": "indexer", "unit": "indexer.service"},
    {"user": "indexer"},
    {"user": "1001"},
    {"unit": "indexer.service"},
    {"container": "crawler"},
    {"container": ID[:12]},
    {"container": ID},
    {"image": "registry.example/crawler:3"},
    {"label": "tier=batch"},
    {"cgroup": "system.slice/indexer.service"},
    {"cgroup": "/system.slice"},
)
OTHERS = (
    {"executable": "/usr/bin/index"},
    {"executable": "/usr/bin/indexer", "sha256": "b" * 64},
    {"executable": "/usr/bin/indexer", "user": "root"},
    {"user": "100"},
    {"unit": "workers"},
    {"container": ID[:11]},
    {"container": "craw"},
    {"image": "registry.example/crawler"},
    {"label": "tier=live"},
    {"cgroup": "system.slice/indexer"},
    {"cgroup": "indexer.service"},
)


def charged(claim: dict[str, str], who: Attested | None = WHO) -> str | None:
    return app_of([CallerClaim(app="search", **claim)], who)


@pytest.mark.parametrize("claim", FITTING, ids=str)
def test_all_that_is_given_fits(claim: dict[str, str]) -> None:
    assert charged(claim) == "search"


@pytest.mark.parametrize("claim", OTHERS, ids=str)
def test_one_that_does_not_is_enough(claim: dict[str, str]) -> None:
    assert charged(claim) is None


def test_the_first_that_fits_decides() -> None:
    claims = [CallerClaim(app=app, user=user) for app, user in (("no", "root"), ("yes", "indexer"), ("late", "1001"))]
    assert app_of(claims, WHO) == "yes"


def test_nobody_is_let_in_unknown() -> None:
    nothing = replace(
        WHO,
        executable=None,
        sha256=None,
        user=None,
        cgroup=None,
        container=None,
        container_name=None,
        image=None,
        labels=(),
    )
    assert charged({"user": "indexer"}, None) is None
    assert [claim for claim in FITTING if charged(claim, nothing)] == [{"user": "1001"}]


@pytest.mark.parametrize("mark", ["inherited", "exec", "exited", "pre-existing", "something-new"])
def test_what_is_not_certain_fits_nobody(mark: str) -> None:
    assert not any(charged(claim, replace(WHO, marks=(mark,))) for claim in FITTING)


@pytest.mark.parametrize("mark", ["namespaced", "unsettled"])
def test_some_marks_leave_all_certain_but_the_executable(mark: str) -> None:
    who = replace(WHO, marks=(mark,))
    let_in = [claim for claim in FITTING if charged(claim, who)]
    assert let_in == [claim for claim in FITTING if not claim.keys() & {"executable", "sha256"}]


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("/system.slice/indexer.service", "indexer.service"),
        ("/system.slice/system-indexer.slice/indexer@1.service/inner.service", "indexer@1.service"),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/indexer.service", "user@1000.service"),
        ("/docker/indexer.service", None),
        ("/user.slice", None),
        ("/", None),
        (None, None),
    ],
)
def test_a_unit_is_the_outermost(cgroup: str | None, unit: str | None) -> None:
    assert unit_of(cgroup) == unit


def test_what_users_may_have_named_is_left_out() -> None:
    """`held` says what of cgroup and container is root's doing."""
    container = {"id": ID, "name": "crawler", "image": "x", "labels": {"a": "b"}, "runtime": "docker"}
    said = {
        "marks": [], "executable": None, "sha256": None, "uid": 7, "user": None, "cgroup": "/user.slice/docker-…",
        "container": container, "held": {"cgroup": "/user.slice", "container": None},
    }  # fmt: skip
    who = attested(said)
    assert (who.cgroup, who.container, who.container_name, who.image, who.labels) == (
        "/user.slice",
        None,
        None,
        None,
        (),
    )
    assert attested({**said, "held": {"cgroup": "/", "container": ID}}).labels == ("a=b",)

"""Bodies on the disk: found among many, gone when their time has come, and the oldest first where there is no room."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.cli.checks import Verdict
from gateway.cli.checks_gateway import recorded_bodies
from gateway.dataplane.bodies.files import BodyFiles, NoRoom
from gateway.policy.body_records import Bodies, Body, folder_name
from gateway.store import bodies
from gateway.store.bodies import Found

PRIVATE = X25519PrivateKey.generate()
KEY = PRIVATE.private_bytes_raw()
PUBLIC = PRIVATE.public_key().public_bytes_raw()
WRITER = "abcdef0"
TODAY = date(2026, 11, 28)


def request_id(day: date, number: int, writer: str = WRITER) -> str:
    at_ms = int(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
    return f"{at_ms:012x}{writer}{number:07x}"


def write(files: BodyFiles, request: str, day: date, *, route: int = 1, keep: int = 7, size: int = 10) -> None:
    folder = f"{day.isoformat()}/{folder_name(route, day + timedelta(days=keep))}"
    text = Body(text=request[-3:] * size)
    recorded = Bodies(
        id=request, route="r", visible_to_team=False, recorded_at_ms=0, request=text, response=Body(why_not="off")
    )
    files.append(folder, PUBLIC, recorded)


def found(folder: Path, request: str) -> Found:
    state, recorded = bodies.read(folder, request, KEY)
    assert (recorded is not None) == (state is Found.KEPT)
    assert recorded is None or recorded.id == request
    return state


@pytest.fixture
def files(tmp_path: Path) -> BodyFiles:
    return BodyFiles(tmp_path, WRITER, 1 << 30, 0)


def test_each_is_found_among_many_files(tmp_path: Path) -> None:
    files = BodyFiles(tmp_path, WRITER, 100_000, 0)  # files of 6 KB
    ids = [request_id(TODAY, number) for number in range(200)]
    for number, each in enumerate(ids):
        write(files, each, TODAY, route=1 + number % 2)
    assert len([*tmp_path.rglob("*.bodies")]) > 4
    assert all(found(tmp_path, each) is Found.KEPT for each in ids)
    assert found(tmp_path, request_id(TODAY, 999)) is Found.MISSING
    assert found(tmp_path, request_id(TODAY, 1, "0000000")) is Found.MISSING
    for nonsense in ("", "../../etc/passwd", "z" * 26, "f" * 26):
        assert found(tmp_path, nonsense) is Found.MISSING


def test_a_torn_end_hides_nothing_before_it(tmp_path: Path, files: BodyFiles) -> None:
    first, last = request_id(TODAY, 1), request_id(TODAY, 2)
    write(files, first, TODAY)
    write(files, last, TODAY)
    (path,) = tmp_path.rglob("*.bodies")
    path.write_bytes(path.read_bytes()[:-1])
    assert (found(tmp_path, first), found(tmp_path, last)) == (Found.KEPT, Found.MISSING)


def test_erased_leaves_no_byte_of_it(tmp_path: Path, files: BodyFiles) -> None:
    first, last = request_id(TODAY, 1), request_id(TODAY, 2)
    write(files, first, TODAY)
    write(files, last, TODAY)
    place = bodies.locate(tmp_path, first)
    assert place is not None
    before = place.path.read_bytes()[place.offset + 60 : place.offset + place.length]
    assert bodies.erase(tmp_path, first)
    assert not bodies.erase(tmp_path, first)
    assert before not in place.path.read_bytes()
    assert (found(tmp_path, first), found(tmp_path, last)) == (Found.ERASED, Found.KEPT)


def test_another_installations_are_unreadable(tmp_path: Path, files: BodyFiles) -> None:
    request = request_id(TODAY, 1)
    write(files, request, TODAY)
    other = X25519PrivateKey.generate().private_bytes_raw()
    assert bodies.read(tmp_path, request, other) == (Found.UNREADABLE, None)


def test_each_goes_when_its_time_has_come(tmp_path: Path, files: BodyFiles) -> None:
    """By what was said when it was recorded, or by what its route says now where that is shorter."""
    old, new = TODAY - timedelta(days=5), TODAY
    ids = {}
    for route, keep in ((1, 4), (2, 5), (3, 30)):
        for day in (old, new):
            ids[route, day] = request_id(day, route)
            write(files, ids[route, day], day, route=route, keep=keep)
    files.close()
    left = lambda: {each for each, request in ids.items() if found(tmp_path, request) is Found.KEPT}  # noqa: E731
    assert bodies.expire(tmp_path, TODAY, {}) > 0
    assert left() == {(1, new), (2, old), (2, new), (3, old), (3, new)}
    assert bodies.expire(tmp_path, TODAY, {3: 2, 2: 90}) > 0
    assert left() == {(1, new), (2, old), (2, new), (3, new)}
    assert bodies.expire(tmp_path, TODAY + timedelta(days=1), {2: 90}) > 0  # raised later: what was said then stands
    assert left() == {(1, new), (2, new), (3, new)}
    assert bodies.expire(tmp_path, TODAY + timedelta(days=60), {}) > 0
    assert [*tmp_path.iterdir()] == []


def test_the_oldest_make_room(tmp_path: Path, files: BodyFiles) -> None:
    days = [TODAY - timedelta(days=back) for back in (3, 1, 2, 0)]
    for number, day in enumerate(days):
        write(files, request_id(day, number), day, size=1000)
    total = bodies.size_of(tmp_path)
    assert bodies.make_room(tmp_path, total) == 0
    assert bodies.make_room(tmp_path, total - 1) > 0
    states = [found(tmp_path, request_id(day, number)) for number, day in enumerate(days)]
    assert states == [Found.MISSING, Found.KEPT, Found.KEPT, Found.KEPT]
    assert bodies.size_of(tmp_path) < total


def test_no_more_is_written_than_may_be(tmp_path: Path) -> None:
    files = BodyFiles(tmp_path, WRITER, 4000, 0)
    with pytest.raises(NoRoom):
        for number in range(1000):
            write(files, request_id(TODAY, number), TODAY)
    assert 0 < bodies.size_of(tmp_path) <= 4000 + 52 * 32
    elsewhere = BodyFiles(tmp_path / "other", WRITER, 1 << 30, 1 << 60)
    with pytest.raises(NoRoom):  # others need what is left of the disk
        write(elsewhere, request_id(TODAY, 1), TODAY)


def test_a_removed_file_is_followed_by_another(tmp_path: Path, files: BodyFiles) -> None:
    write(files, request_id(TODAY, 1), TODAY, route=7)
    assert bodies.erase_route(tmp_path, 7) > 0
    write(files, request_id(TODAY, 2), TODAY, route=7)
    assert found(tmp_path, request_id(TODAY, 1)) is Found.MISSING
    assert found(tmp_path, request_id(TODAY, 2)) is Found.KEPT


def test_doctor_says_how_much_there_is(tmp_path: Path, files: BodyFiles) -> None:
    write(files, request_id(TODAY, 1), TODAY)
    told = recorded_bodies(tmp_path, 1 << 30)
    assert (told.verdict, "days recorded: 1" in told.detail) == (Verdict.FINE, True)
    nearly = recorded_bodies(tmp_path, bodies.size_of(tmp_path) + 1)
    assert nearly.verdict is Verdict.WEAK
    assert "bodies_max_bytes" in nearly.fix

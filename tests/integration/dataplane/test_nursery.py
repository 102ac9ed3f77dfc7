"""Keeper and workers are forked from the nursery: they look and behave like children of the supervisor's own."""

import signal
from pathlib import Path

from tests.integration.dataplane.test_lifecycle import KEY, MESSAGES, configuration
from tests.support import live
from tests.support.live import Live
from tests.support.processes import Process
from tests.support.provider import Provider


def parent_of(process: Process) -> int:
    return int(Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2].split()[1])


def private_bytes(process: Process) -> int:
    lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_Dirty"))


def nurseries(sluice: Live) -> list[Process]:
    return [process for process in sluice.processes() if "gateway.nursery_main" in process.command]


def call(sluice: Live) -> int:
    body = {"model": "chat", "messages": MESSAGES}
    return sluice.api.post("/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}).status_code


def test_what_is_born_is_the_supervisors_child_and_shares_its_memory(tmp_path: Path) -> None:
    with Provider() as provider, live.gateway(tmp_path, configuration(provider.url), workers=2) as sluice:
        (nursery,) = nurseries(sluice)
        born = [sluice.keeper(), *sluice.workers()]
        assert {parent_of(process) for process in born} == {sluice.pid} == {parent_of(nursery)}
        slots = [process.command.partition("--slot ")[2][:1] for process in sluice.workers()]
        assert sorted(slots) == ["0", "1"]
        assert len(list(Path(f"/proc/{nursery.pid}/task").iterdir())) == 1
        for process in sluice.workers():
            assert private_bytes(process) < process.resident_bytes / 2
        # Only the supervisor's own: no descriptor of one child is left open in another.
        assert nursery.open_files <= 4


def test_the_nursery_dies_and_nobody_notices(tmp_path: Path) -> None:
    with Provider() as provider, live.gateway(tmp_path, configuration(provider.url), workers=1) as sluice:
        (nursery,), (worker,) = nurseries(sluice), sluice.workers()
        nursery.kill()
        assert call(sluice) == 200
        sluice.until(lambda: [each.pid for each in nurseries(sluice)] not in ([], [nursery.pid]), 30)
        assert [each.pid for each in sluice.workers()] == [worker.pid]

        worker.kill(signal.SIGKILL)  # also while the new nursery still imports
        sluice.until(lambda: [each.pid for each in sluice.workers()] not in ([], [worker.pid]), 30)
        sluice.wait_ready()
        assert call(sluice) == 200
        assert parent_of(sluice.workers()[0]) == sluice.pid


def test_everybody_ends_with_the_supervisor(tmp_path: Path) -> None:
    with Provider() as provider, live.gateway(tmp_path, configuration(provider.url), workers=2) as sluice:
        before = sluice.processes()
        assert len(before) == 5
        sluice.signal(signal.SIGKILL)
        assert [process for process in before if not process.wait(15)] == []

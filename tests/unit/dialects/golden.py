"""The recorded and written answers under tests/golden: one folder a case.

`request.json` is what the caller sent, `answer.json`, `.sse` or `.ndjson` what the upstream answered, `expected.json`
what is to be read from it, `unasked.sse` what a caller gets who did not ask for usage, `source.txt` where it is from.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.dialects.base import Call, Meter, Operation
from gateway.dialects.registry import HANDLERS, classify
from gateway.policy.usage import Usage

FOLDER = Path(__file__).parents[2] / "golden"


@dataclass(frozen=True)
class Golden:
    name: str
    operation: Operation
    request: bytes
    answer: bytes
    unasked: bytes | None
    expected: dict[str, Any]

    @property
    def usage(self) -> Usage | None:
        told = self.expected["usage"]
        return None if told is None else Usage(**told)

    def call(self) -> Call:
        return HANDLERS[self.operation.dialect].read_call(self.operation, b"application/json", self.request)

    def meter(self, call: Call) -> Meter:
        handler = HANDLERS[self.operation.dialect]
        return handler.meter(
            self.operation, call, self.expected["status"], self.expected["content_type"].encode("ascii")
        )


def _read(folder: Path) -> Golden:
    expected = json.loads((folder / "expected.json").read_text())
    operation = classify(b"POST", f"/{folder.parent.name}{expected['path']}".encode(), b"", [])
    assert operation is not None
    unasked = folder / "unasked.sse"
    return Golden(
        name=f"{folder.parent.name}/{folder.name}",
        operation=operation,
        request=(folder / "request.json").read_bytes(),
        answer=next(folder.glob("answer.*")).read_bytes(),
        unasked=unasked.read_bytes() if unasked.exists() else None,
        expected=expected,
    )


GOLDEN = [_read(path.parent) for path in sorted(FOLDER.glob("*/*/expected.json"))]

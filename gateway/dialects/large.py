"""Calls whose bodies are never held whole: read by the scanners while they pass to a file, edited by splices."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import orjson

from gateway.dialects import form
from gateway.dialects.base import Call, LargeCall, Operation
from gateway.dialects.body import CriticalFields, Splice, missing
from gateway.dialects.input_bound import MEDIA_TOKENS, MESSAGE_TOKENS, is_media
from gateway.errors import BadRequest
from gateway.wire.errors import WireError
from gateway.wire.json_scan import Member, TopLevelScanner
from gateway.wire.multipart import MultipartScanner

ReadDocument = Callable[[Operation, Mapping[str, Any], int], Call]
"""Makes the call of the decoded small fields and of the input bound."""
EditMembers = Callable[[Call, Mapping[str, Member]], list[Splice]]
"""What is edited besides the model."""


def no_edits(call: Call, members: Mapping[str, Member]) -> list[Splice]:
    return []


class LargeJsonCall:
    """A JSON body. `text_fields` bound the input: their bytes, but for media."""

    __slots__ = ("_edit", "_operation", "_problem", "_read", "_scanner", "_small", "_text_fields")

    def __init__(
        self,
        operation: Operation,
        critical: CriticalFields,
        text_fields: Collection[str],
        read: ReadDocument,
        edit: EditMembers = no_edits,
    ) -> None:
        self._operation = operation
        self._small = critical.small
        self._text_fields = text_fields
        self._read = read
        self._edit = edit
        self._scanner = TopLevelScanner(
            self._small, unique=critical.names, opaque_bytes=MEDIA_TOKENS, is_opaque=is_media
        )
        self._problem: WireError | None = None

    def feed(self, chunk: bytes) -> None:
        if self._problem is None:
            try:
                self._scanner.feed(chunk)
            except WireError as problem:
                self._problem = problem

    def call(self) -> Call:
        if self._problem is None:
            try:
                self._scanner.close()
            except WireError as problem:
                self._problem = problem
        if self._problem is not None:
            raise BadRequest(self._problem.message, fix="send one JSON object that names each field once")
        members = self._scanner.members
        document = {name: _value(name, members[name]) for name in self._small if name in members}
        bound = 0
        for name in self._text_fields:
            member = members.get(name)
            if member is not None:
                bound += member.end - member.start - member.opaque_excess + MESSAGE_TOKENS
        return self._read(self._operation, document, bound)

    def splices(self, call: Call, model: str) -> Sequence[Splice]:
        members = self._scanner.members
        edits = self._edit(call, members)
        if model != call.route:
            named = members.get("model")
            if named is None:
                raise missing("model")
            edits.append((named.start, named.end, orjson.dumps(model)))
        return sorted(edits)


def _value(name: str, member: Member) -> object:
    try:
        return orjson.loads(member.raw)
    except orjson.JSONDecodeError as problem:
        raise BadRequest(f'"{name}" is not valid JSON: {problem}', fix=f'send "{name}" as JSON', param=name) from None


class LargeFormCall:
    """A multipart form, e.g. an hour of speech to transcribe."""

    __slots__ = ("_problem", "_scanner")

    def __init__(self, content_type: bytes) -> None:
        self._problem: BadRequest | None = None
        self._scanner: MultipartScanner | None = None
        try:
            self._scanner = form.scanner_for(content_type)
        except BadRequest as problem:
            self._problem = problem

    def feed(self, chunk: bytes) -> None:
        if self._scanner is not None and self._problem is None:
            try:
                self._scanner.feed(chunk)
            except WireError as problem:
                self._problem = form.broken(problem)

    def call(self) -> Call:
        if self._scanner is not None and self._problem is None:
            try:
                self._scanner.close()
            except WireError as problem:
                self._problem = form.broken(problem)
        if self._problem is not None or self._scanner is None:
            raise self._problem or BadRequest("the form could not be read")
        return form.call_of(self._scanner.parts)

    def splices(self, call: Call, model: str) -> Sequence[Splice]:
        if model == call.route or self._scanner is None:
            return []
        return form.model_splices(self._scanner.parts, model)


def large_call(
    operation: Operation,
    content_type: bytes,
    critical: CriticalFields,
    text_fields: Collection[str],
    read: ReadDocument,
    edit: EditMembers = no_edits,
) -> LargeCall:
    """The reader that the content type asks for."""
    if form.is_form(content_type):
        return LargeFormCall(content_type)
    return LargeJsonCall(operation, critical, text_fields, read, edit)

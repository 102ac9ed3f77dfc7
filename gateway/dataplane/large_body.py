"""Send a body that lies in a file, with the edits that a target needs, without ever holding it whole."""

from collections.abc import Iterator, Sequence

from gateway.dataplane.request import FILE_CHUNK_BYTES, RequestBody

Splice = tuple[int, int, bytes]
"""`body[start:end]` becomes these bytes."""


def spliced_length(size: int, edits: Sequence[Splice]) -> int:
    """Bytes of the edited body."""
    return size + sum(len(replacement) - (end - start) for start, end, replacement in edits)


def spliced(body: RequestBody, edits: Sequence[Splice]) -> Iterator[bytes]:
    """The edited body piece by piece. `edits` in ascending order, not overlapping."""
    at = 0
    for start, end, replacement in edits:
        yield from _span(body, at, start)
        yield replacement
        at = end
    yield from _span(body, at, body.size)


def _span(body: RequestBody, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        piece = body.read_file(start, min(FILE_CHUNK_BYTES, end - start))
        if not piece:
            raise OSError("the temporary file of a request body is shorter than what was written to it")
        yield piece
        start += len(piece)

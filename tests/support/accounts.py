"""What lies at a provider's accounts: files, batches, uploads, responses. An account is told by its credential, and
knows nothing of what lies at another.

Shapes: the references of OpenAI (files, uploads, batch, responses), Anthropic (files, message batches) and Mistral
(files, batch jobs), as their SDKs parse them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from typing import Any

JSON = b"application/json"


@dataclass(frozen=True)
class Told:
    status: int
    content_type: bytes
    body: bytes


@dataclass
class Account:
    files: dict[str, bytes] = field(default_factory=dict)
    batches: dict[str, dict[str, Any]] = field(default_factory=dict)
    uploads: dict[str, list[bytes]] = field(default_factory=dict)
    responses: dict[str, dict[str, Any]] = field(default_factory=dict)


class Accounts:
    """Answers that depend on what was sent before."""

    def __init__(self) -> None:
        self.by_secret: dict[str, Account] = {}
        self._made = 0

    def of(self, secret: str) -> Account:
        return self.by_secret.setdefault(secret, Account())

    def answer(
        self, method: str, target: str, secret: str, content_type: str, body: bytes, anthropic: bool
    ) -> Told | None:
        """None: this is no affair of an account."""
        path = target.partition("?")[0]
        if path.startswith("/mistral/v1/"):
            dialect, path = "mistral", path.removeprefix("/mistral")
        else:
            dialect = "anthropic" if anthropic else "openai"
        words = path.removeprefix("/v1/").split("/")
        account = self.of(secret)
        if words[:2] == ["messages", "batches"] or words[:2] == ["batch", "jobs"]:
            words = ["batches", *words[2:]]
        serve: dict[str, Callable[[], Told | None]] = {
            "files": lambda: self._files(account, dialect, method, words[1:], content_type, body),
            "batches": lambda: self._batches(account, dialect, method, words[1:], body),
            "uploads": lambda: self._uploads(account, method, words[1:], content_type, body),
            "responses": lambda: self._responses(account, method, words[1:]),
        }
        return serve[words[0]]() if words[0] in serve else None

    def _name(self, kind: str) -> str:
        self._made += 1
        return f"{kind}-{self._made:04}"

    def _files(
        self, account: Account, dialect: str, method: str, words: list[str], content_type: str, body: bytes
    ) -> Told | None:
        if not words and method == "POST":
            name = self._name("file")
            account.files[name] = part_of(content_type, body, "file")
            return told(file_object(dialect, name, account.files[name]))
        if not words:
            listed = [file_object(dialect, name, content) for name, content in account.files.items()]
            return told({"object": "list", "data": listed, "has_more": False, "total": len(listed)})
        content = account.files.get(words[0])
        if content is None:
            return unknown(words[0])
        if words[1:] == ["content"]:
            return Told(200, b"application/octet-stream", content)
        if words[1:] == ["url"]:
            return told({"url": f"https://storage.example/{words[0]}?signature=x"})
        if method == "DELETE":
            del account.files[words[0]]
            kind = {"type": "file_deleted"} if dialect == "anthropic" else {"object": "file", "deleted": True}
            return told({"id": words[0], **kind})
        return told(file_object(dialect, words[0], content))

    def _batches(self, account: Account, dialect: str, method: str, words: list[str], body: bytes) -> Told | None:
        if not words and method == "POST":
            asked = json.loads(body)
            wanted = asked.get("input_files") or [asked["input_file_id"]] if dialect != "anthropic" else []
            for name in wanted:
                if name not in account.files:
                    return unknown(name)
            made = batch_object(dialect, self._name("batch"), asked)
            account.batches[made["id"]] = made
            return told(made)
        if not words:
            listed = list(account.batches.values())
            return told({"object": "list", "data": listed, "has_more": False, "total": len(listed)})
        batch = account.batches.get(words[0])
        if batch is None:
            return unknown(words[0])
        if words[1:] == ["cancel"]:
            batch |= {"processing_status": "canceling"} if dialect == "anthropic" else {"status": cancelled(dialect)}
        if words[1:] == ["results"]:
            error = {"type": "error", "error": {"type": "error", "error": {"type": "api_error", "message": "no"}}}
            lines = [{"custom_id": "first", "result": {"type": "canceled"}}, {"custom_id": "second", "result": error}]
            return Told(200, b"application/x-jsonl", b"".join(json.dumps(line).encode() + b"\n" for line in lines))
        if method == "DELETE":
            del account.batches[words[0]]
            return told({"id": words[0], "type": "message_batch_deleted"})
        return told(batch)

    def _uploads(self, account: Account, method: str, words: list[str], content_type: str, body: bytes) -> Told | None:
        if not words:
            name = self._name("upload")
            account.uploads[name] = []
            return told({"id": name, "object": "upload", "status": "pending", **json.loads(body)})
        parts = account.uploads.get(words[0])
        if parts is None:
            return unknown(words[0])
        if words[1:] == ["parts"]:
            parts.append(part_of(content_type, body, "data"))
            return told({"id": f"part-{len(parts)}", "object": "upload.part", "upload_id": words[0]})
        whole = self._name("file")
        account.files[whole] = b"".join(parts)
        made = file_object("openai", whole, account.files[whole])
        return told({"id": words[0], "object": "upload", "status": "completed", "file": made})

    def _responses(self, account: Account, method: str, words: list[str]) -> Told | None:
        if not words:
            return None
        stored = account.responses.get(words[0])
        if stored is None:
            return unknown(words[0])
        if words[1:] == ["input_items"]:
            item = {"id": "msg_0", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
            return told({"object": "list", "data": [item], "has_more": False, "first_id": "msg_0", "last_id": "msg_0"})
        if words[1:] == ["cancel"]:
            stored |= {"status": "cancelled"}
        if method == "DELETE":
            del account.responses[words[0]]
            return told({"id": words[0], "object": "response", "deleted": True})
        return told(stored)


def told(value: dict[str, Any], status: int = 200) -> Told:
    return Told(status, JSON, json.dumps(value).encode())


def unknown(name: str) -> Told:
    error = {"type": "not_found_error", "message": f"No such object: {name}", "param": "id", "code": None}
    return told({"type": "error", "error": error}, 404)


def cancelled(dialect: str) -> str:
    return "CANCELLATION_REQUESTED" if dialect == "mistral" else "cancelling"


def part_of(content_type: str, body: bytes, name: str) -> bytes:
    """The content of one part of a form, read by the standard library."""
    form = message_from_bytes(b"content-type: " + content_type.encode() + b"\r\n\r\n" + body)
    for part in form.get_payload():  # type: ignore[union-attr]
        if part.get_param("name", header="content-disposition") == name:  # type: ignore[union-attr]
            return part.get_payload(decode=True)  # type: ignore[union-attr,no-any-return,return-value]
    raise AssertionError(f"the form has no part {name}")


def file_object(dialect: str, name: str, content: bytes) -> dict[str, Any]:
    if dialect == "anthropic":
        return {
            "id": name,
            "type": "file",
            "filename": "a.jsonl",
            "mime_type": "application/jsonl",
            "size_bytes": len(content),
            "created_at": "2026-11-26T00:00:00Z",
            "downloadable": True,
        }
    made = {
        "id": name,
        "object": "file",
        "bytes": len(content),
        "created_at": 1764115200,
        "filename": "a.jsonl",
        "purpose": "batch",
    }
    return made | (
        {"sample_type": "batch_request", "source": "upload", "deleted": False} if dialect == "mistral" else {}
    )


def batch_object(dialect: str, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    if dialect == "anthropic":
        counts = {"processing": len(asked["requests"]), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        return {
            "id": name,
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": counts,
            "created_at": "2026-11-26T00:00:00Z",
            "expires_at": "2026-11-27T00:00:00Z",
            "ended_at": None,
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": f"https://api.anthropic.com/v1/messages/batches/{name}/results",
        }
    if dialect == "mistral":
        return {
            "id": name,
            "object": "batch",
            "input_files": asked["input_files"],
            "metadata": None,
            "endpoint": asked["endpoint"],
            "model": asked.get("model"),
            "errors": [],
            "status": "QUEUED",
            "created_at": 1764115200,
            "total_requests": 1,
            "completed_requests": 0,
            "succeeded_requests": 0,
            "failed_requests": 0,
        }
    return {"id": name, "object": "batch", "status": "validating", "created_at": 1764115200, **asked}

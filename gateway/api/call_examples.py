"""How to call a service, ready to be pasted: a dialect's curl, Python and Node code. `docs/app-teams.md` and a test run
what is written here."""

import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from string import Template
from typing import Final

from gateway.policy.model import Dialect
from gateway.store.views import View

KEY_VARIABLE: Final = "SLUICEGATE_KEY"


class Language(StrEnum):
    CURL = "curl"
    PYTHON = "python"
    NODE = "node"


class CallExample(View):
    dialect: Dialect
    language: Language
    needs: str | None
    """The command that installs what the code imports; null: nothing."""
    code: str
    """The key is read from the variable SLUICEGATE_KEY."""


_CURL_OPENAI: Final = """\
curl $base/v1/chat/completions \\
  -H "Authorization: Bearer $$SLUICEGATE_KEY" \\
  -H "Content-Type: application/json" \\
  -d $body
"""
_CURL_ANTHROPIC: Final = """\
curl $base/v1/messages \\
  -H "x-api-key: $$SLUICEGATE_KEY" \\
  -H "anthropic-version: 2023-06-01" \\
  -H "Content-Type: application/json" \\
  -d $body
"""
_CURL_GEMINI: Final = """\
curl $base/v1beta/models/$path:generateContent \\
  -H "x-goog-api-key: $$SLUICEGATE_KEY" \\
  -H "Content-Type: application/json" \\
  -d $body
"""
_CURL_OLLAMA: Final = """\
curl $base/api/chat \\
  -H "Authorization: Bearer $$SLUICEGATE_KEY" \\
  -H "Content-Type: application/json" \\
  -d $body
"""
_CURL_HTTP: Final = """\
curl $url \\
  -H "Authorization: Bearer $$SLUICEGATE_KEY"$host
"""
_PYTHON_OPENAI: Final = """\
import os
from openai import OpenAI

client = OpenAI(base_url="$base/v1", api_key=os.environ["SLUICEGATE_KEY"])
answer = client.chat.completions.create(
    model=$model,
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)
"""
_PYTHON_ANTHROPIC: Final = """\
import os
from anthropic import Anthropic

client = Anthropic(base_url="$base", api_key=os.environ["SLUICEGATE_KEY"])
answer = client.messages.create(
    model=$model,
    max_tokens=256,
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.content[0].text)
"""
_PYTHON_GEMINI: Final = """\
import os
from google import genai

client = genai.Client(api_key=os.environ["SLUICEGATE_KEY"], http_options={"base_url": "$base"})
print(client.models.generate_content(model=$model, contents="Hello").text)
"""
_PYTHON_MISTRAL: Final = """\
import os
from mistralai.client import Mistral

client = Mistral(server_url="$base", api_key=os.environ["SLUICEGATE_KEY"])
answer = client.chat.complete(
    model=$model,
    messages=[{"role": "user", "content": "Hello"}],
)
print(answer.choices[0].message.content)
"""
_PYTHON_OLLAMA: Final = """\
import os
from ollama import Client

client = Client(host="$base", headers={"Authorization": f"Bearer {os.environ['SLUICEGATE_KEY']}"})
answer = client.chat(model=$model, messages=[{"role": "user", "content": "Hello"}])
print(answer.message.content)
"""
_PYTHON_HTTP: Final = """\
import os
from urllib.request import Request, urlopen

headers = {"Authorization": f"Bearer {os.environ['SLUICEGATE_KEY']}"$host}
with urlopen(Request("$url", headers=headers)) as answer:
    print(answer.read().decode())
"""
_NODE: Final = """\
const answer = await fetch("$url", {
  method: "POST",
  headers: { $key, "Content-Type": "application/json" },
  body: JSON.stringify($body),
});
console.log(await answer.json());
"""
_NODE_HTTP: Final = """\
const answer = await fetch("$url", { headers: { Authorization: `Bearer $${process.env.SLUICEGATE_KEY}` } });
console.log(await answer.text());
"""
_NODE_BEARER: Final = "Authorization: `Bearer ${process.env.SLUICEGATE_KEY}`"

_CURL: Final[Mapping[Dialect, str]] = {
    Dialect.OPENAI: _CURL_OPENAI,
    Dialect.MISTRAL: _CURL_OPENAI,
    Dialect.ANTHROPIC: _CURL_ANTHROPIC,
    Dialect.GEMINI: _CURL_GEMINI,
    Dialect.OLLAMA: _CURL_OLLAMA,
}
_PYTHON: Final[Mapping[Dialect, tuple[str, str]]] = {
    Dialect.OPENAI: ("openai", _PYTHON_OPENAI),
    Dialect.MISTRAL: ("mistralai", _PYTHON_MISTRAL),
    Dialect.ANTHROPIC: ("anthropic", _PYTHON_ANTHROPIC),
    Dialect.GEMINI: ("google-genai", _PYTHON_GEMINI),
    Dialect.OLLAMA: ("ollama", _PYTHON_OLLAMA),
}
_NODE_CALLS: Final[Mapping[Dialect, tuple[str, str]]] = {
    Dialect.OPENAI: ("/v1/chat/completions", _NODE_BEARER),
    Dialect.MISTRAL: ("/mistral/v1/chat/completions", _NODE_BEARER),
    Dialect.ANTHROPIC: ("/v1/messages", '"x-api-key": process.env.SLUICEGATE_KEY, "anthropic-version": "2023-06-01"'),
    Dialect.GEMINI: ("/v1beta/models/$path:generateContent", '"x-goog-api-key": process.env.SLUICEGATE_KEY'),
    Dialect.OLLAMA: ("/api/chat", _NODE_BEARER),
}


def examples(base: str, route: str, dialects: Sequence[Dialect]) -> list[CallExample]:
    """Of a route that is asked for as a model. `base`: of the data plane, without a slash at its end."""
    found = []
    for dialect in dialects:
        body = _body(dialect, route)
        words = {"base": base, "path": _in_path(route), "model": json.dumps(route)}
        path, key = _NODE_CALLS[dialect]
        package, python = _PYTHON[dialect]
        found += [
            CallExample(
                dialect=dialect, language=Language.CURL, needs=None,
                code=Template(_CURL[dialect]).substitute(words, body=_quoted(json.dumps(body))),
            ),
            CallExample(
                dialect=dialect, language=Language.PYTHON, needs=f"pip install {package}",
                code=Template(python).substitute(words),
            ),
            CallExample(
                dialect=dialect, language=Language.NODE, needs=None,
                code=Template(_NODE).substitute(
                    url=base + Template(path).safe_substitute(words), key=key, body=json.dumps(body)
                ),
            ),
        ]  # fmt: skip
    return found


def http_examples(base: str, host: str | None, path: str | None) -> list[CallExample]:
    """Of an HTTP route. One that is claimed by host wants its name in `Host`, wherever the gateway itself listens."""
    url = base + (path or "/")
    curl_host = "" if host is None else f' \\\n  -H "Host: {host}"'
    found = [
        (Language.CURL, Template(_CURL_HTTP).substitute(url=url, host=curl_host)),
        (
            Language.PYTHON,
            Template(_PYTHON_HTTP).substitute(url=url, host="" if host is None else f', "Host": {json.dumps(host)}'),
        ),
    ]
    if host is None:  # fetch sets Host by itself
        found.append((Language.NODE, Template(_NODE_HTTP).substitute(url=url)))
    return [CallExample(dialect=Dialect.HTTP, language=language, needs=None, code=code) for language, code in found]


def _body(dialect: Dialect, route: str) -> dict[str, object]:
    messages = [{"role": "user", "content": "Hello"}]
    match dialect:
        case Dialect.GEMINI:
            return {"contents": [{"parts": [{"text": "Hello"}]}]}
        case Dialect.ANTHROPIC:
            return {"model": route, "max_tokens": 256, "messages": messages}
        case Dialect.OLLAMA:
            return {"model": route, "messages": messages, "stream": False}
        case _:
            return {"model": route, "messages": messages}


def _quoted(text: str) -> str:
    """As one word for a shell."""
    return "'" + text.replace("'", "'\\''") + "'"


def _in_path(route: str) -> str:
    return "".join(
        each if each.isalnum() or each in "-._~" else "".join(f"%{b:02X}" for b in each.encode()) for each in route
    )

"""`/api/docs`: the OpenAPI document as one plain page. No script and no third party; it prints and searches well."""

import base64
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any, Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from gateway.errors import SluicegateError

router = APIRouter(include_in_schema=False)

STYLE: Final = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem}
h2{margin-top:2.5rem;border-bottom:1px solid #8886}
h3{font:600 15px ui-monospace,monospace;margin:1.6rem 0 .2rem}
code,pre{font:13px ui-monospace,monospace}
pre{background:#8881;padding:.6rem;overflow:auto}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;vertical-align:top;padding:.2rem .8rem .2rem 0;border-bottom:1px solid #8883}
.method{display:inline-block;min-width:4.5em}
.roles{opacity:.75}
"""
POLICY: Final = (
    "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    + "'"
)


@router.get("/api/docs")
def api_docs(request: Request) -> Response:
    """The page, made from the OpenAPI document of this very process."""
    page = render(request.app.openapi())
    return HTMLResponse(page, headers={"content-security-policy": POLICY, "cache-control": "no-cache"})


@router.get("/api/openapi.json")
def openapi_document(request: Request) -> Response:
    document = orjson.dumps(request.app.openapi())
    return Response(document, media_type="application/json", headers={"cache-control": "no-cache"})


def render(document: Mapping[str, Any]) -> str:
    """HTML of an OpenAPI document, operations by tag, then schemas, then the codes of problems."""
    return "".join(_page(document))


def _page(document: Mapping[str, Any]) -> Iterator[str]:
    title = escape(f"{document['info']['title']} REST API {document['info']['version']}")
    yield f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head><body><h1>{title}</h1>"
    for paragraph in document["info"]["description"].split("\n\n"):
        yield f"<p>{escape(paragraph)}</p>"
    yield '<p>Machine-readable: <a href="/api/openapi.json">/api/openapi.json</a>, for any generator or viewer.</p>'
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = defaultdict(list)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            by_tag[operation.get("tags", ["other"])[0]].append((path, method, operation))
    for tag, operations in by_tag.items():
        yield f'<h2 id="{escape(tag)}">{escape(tag)}</h2>'
        for path, method, operation in operations:
            yield from _operation(path, method, operation)
    yield '<h2 id="schemas">Schemas</h2>'
    for name, schema in sorted(document["components"]["schemas"].items()):
        yield from _schema(name, schema)
    yield '<h2 id="problems">Problems</h2><table><tr><th>code</th><th>status</th><th></th></tr>'
    for code, (status, meaning) in sorted(problem_codes().items()):
        yield f'<tr id="problem-{code}"><td><code>{code}</code></td><td>{status}</td><td>{escape(meaning)}</td></tr>'
    yield "</table></body></html>"


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h3 id="{escape(operation["operationId"])}"><span class="method">{method.upper()}</span>{escape(path)}</h3>'
    yield f"<div>{escape(operation.get('description') or operation['summary'])}</div>"
    if "x-roles" in operation:
        yield f'<div class="roles">Roles: {escape(", ".join(operation["x-roles"]))}</div>'
    parameters = operation.get("parameters", [])
    if parameters:
        yield "<table>"
        for parameter in parameters:
            where = parameter["in"] + (", required" if parameter.get("required") and parameter["in"] != "path" else "")
            yield (
                f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{where}</td>"
                f"<td>{_type(parameter.get('schema', {}))}</td><td>{escape(parameter.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    for media_type, body in operation.get("requestBody", {}).get("content", {}).items():
        yield f"<div>Body ({escape(media_type)}): {_type(body.get('schema', {}))}</div>"
    for status, response in operation.get("responses", {}).items():
        shapes = [_type(body.get("schema", {})) for body in response.get("content", {}).values()]
        if status != "default":
            yield f"<div>Answer {escape(status)}: {', '.join(shapes) or 'empty'}</div>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'<h3 id="schema-{escape(name)}">{escape(name)}</h3><div>{escape(schema.get("description", ""))}</div>'
    if "enum" in schema:
        yield f"<div>{_type(schema)}</div>"
    required = schema.get("required", [])
    yield "<table>"
    for field, shape in schema.get("properties", {}).items():
        mark = "required" if field in required else ""
        yield (
            f"<tr><td><code>{escape(field)}</code></td><td>{mark}</td><td>{_type(shape)}</td>"
            f"<td>{escape(shape.get('description', ''))}</td></tr>"
        )
    yield "</table>"


def _type(shape: Mapping[str, Any]) -> str:
    """A schema in a few words, with links to the named ones."""
    if "$ref" in shape:
        name = escape(shape["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#schema-{name}">{name}</a>'
    for union in ("anyOf", "oneOf", "allOf"):
        if union in shape:
            return " | ".join(_type(each) for each in shape[union])
    if "enum" in shape:
        return " | ".join(f"<code>{escape(str(each))}</code>" for each in shape["enum"])
    if "const" in shape:
        return f"<code>{escape(str(shape['const']))}</code>"
    if shape.get("type") == "array":
        return f"list of {_type(shape.get('items', {}))}"
    words = [str(shape.get("type", "any")), str(shape.get("format", ""))]
    return escape(" ".join(word for word in words if word))


def problem_codes() -> dict[str, tuple[int, str]]:
    """Every code of the error hierarchy with its status and meaning."""
    codes: dict[str, tuple[int, str]] = {
        "not_ready": (503, "This worker has no configuration or no keeper yet."),
        "method_not_allowed": (405, "The path answers other methods: see `Allow`."),
    }
    pending = [SluicegateError]
    while pending:
        kind = pending.pop()
        pending.extend(kind.__subclasses__())
        meaning = (kind.__doc__ or "").strip().split("\n\n")[0] if kind is not SluicegateError else "A fault of ours."
        codes.setdefault(kind.code, (kind.status, " ".join(meaning.split())))
    return codes

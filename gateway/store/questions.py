"""All questions that reports answer, and what each is answered by: the same in a worker and in the reporter."""

from typing import Any, TypeAlias

from gateway.store.flow_report import FirstTokenQuestion, FlowQuestion, first_token_page, flow_page
from gateway.store.report import (
    Fetch,
    LedgerQuestion,
    Statement,
    UsageQuestion,
    ledger_page,
    usage_page,
)

Question: TypeAlias = UsageQuestion | LedgerQuestion | FlowQuestion | FirstTokenQuestion


def question_of(named: dict[str, Any]) -> Question:
    """What `orjson.dumps(question)` became."""
    match named["kind"]:
        case "usage":
            return UsageQuestion(**named | {"statements": _statements(named["statements"])})
        case "flows":
            parts = ("paths", "first_tokens", "first_tokens_before", "carried", "past")
            return FlowQuestion(**named | {name: _statements(named[name]) for name in parts})
        case "first_tokens":
            return FirstTokenQuestion(**named | {"statements": _statements(named["statements"])})
        case _:
            return LedgerQuestion(**named | {"statement": Statement(**named["statement"])})


def answer(question: Question, fetch: Fetch) -> bytes:
    """The answer as JSON. Raises what `fetch` raises."""
    match question:
        case UsageQuestion():
            return usage_page(question, fetch)
        case LedgerQuestion():
            return ledger_page(question, fetch)
        case FlowQuestion():
            return flow_page(question, fetch)
        case FirstTokenQuestion():
            return first_token_page(question, fetch)


def _statements(named: list[dict[str, Any]]) -> list[Statement]:
    return [Statement(**each) for each in named]

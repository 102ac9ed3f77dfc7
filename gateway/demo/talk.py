"""Two chats through the gateway, and how much it delays one, measured against the model server itself."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any, Final

import httpx2
import orjson

from gateway.demo.fetch import DemoFailed
from gateway.demo.model_server import MODEL_NAME

PATIENCE_S: Final = 120.0
CONFIGURATION_PATIENCE_S: Final = 5.0
LET_IN_IN_A_ROW: Final = 8
MAX_TOKENS: Final = 96
PAIRS: Final = 30
"""Calls direct and through, in turn: their medians settle within some 50 µs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back. Tokens as the model server reported them, times in seconds from the request's start."""

    request_id: str
    text: str
    input_tokens: int
    output_tokens: int
    first_token_s: float
    total_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """What the gateway adds to a call, in seconds. `noise_s`: how far the figure may be off (two standard errors)."""

    median_s: float
    noise_s: float


class Talk:
    """One caller of the route `demo`, in both dialects."""

    def __init__(self, base_url: str, key: str) -> None:
        self.client = httpx2.Client(base_url=base_url, timeout=PATIENCE_S, headers={"authorization": f"Bearer {key}"})

    def close(self) -> None:
        self.client.close()

    def wait_until_known(self) -> None:
        """Until every worker knows the key: a second after the configuration at most. Each connection may meet another
        worker, so that several in a row must be let in. Raises DemoFailed."""
        until_s = time.monotonic() + CONFIGURATION_PATIENCE_S
        let_in = 0
        while let_in < LET_IN_IN_A_ROW:
            answer = self.client.get("/v1/models", headers={"connection": "close"})
            let_in = let_in + 1 if answer.status_code == 200 else 0
            if let_in == 0:
                if time.monotonic() > until_s:
                    _require_success(answer)
                time.sleep(0.05)

    def ask(self, question: str) -> Answer:
        """A plain OpenAI chat completion."""
        began_s = time.perf_counter()
        answer = self.client.post("/v1/chat/completions", json=_chat(question))
        total_s = time.perf_counter() - began_s
        _require_success(answer)
        body = answer.json()
        return Answer(
            request_id=answer.headers["x-request-id"],
            text=body["choices"][0]["message"]["content"].strip(),
            input_tokens=body["usage"]["prompt_tokens"],
            output_tokens=body["usage"]["completion_tokens"],
            first_token_s=total_s,
            total_s=total_s,
        )

    def stream(self, question: str, on_text: Callable[[str], None]) -> Answer:
        """A streamed Anthropic message; `on_text` gets each piece as it comes."""
        pieces: list[str] = []
        input_tokens = output_tokens = 0
        began_s = time.perf_counter()
        first_token_s = 0.0
        body = {**_chat(question), "stream": True}
        with self.client.stream(
            "POST", "/v1/messages", json=body, headers={"anthropic-version": "2023-06-01"}
        ) as answer:
            if answer.status_code != 200:
                answer.read()
            _require_success(answer)
            for line in answer.iter_lines():
                if not line.startswith("data: "):
                    continue
                event = orjson.loads(line[6:])
                usage = event.get("usage") or event.get("message", {}).get("usage") or {}
                if "input_tokens" in usage:
                    input_tokens = usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0)
                output_tokens = usage.get("output_tokens", output_tokens)
                text = event.get("delta", {}).get("text")
                if text:
                    first_token_s = first_token_s or time.perf_counter() - began_s
                    pieces.append(text)
                    on_text(text)
        return Answer(
            request_id=answer.headers["x-request-id"],
            text="".join(pieces).strip(),
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            first_token_s=first_token_s,
            total_s=time.perf_counter() - began_s,
        )

    def added_latency(self, model_url: str) -> Added:
        """What the gateway adds to a call: median through it less median direct, of token counts asked in turn.

        Counting tokens takes the whole way (key, route, limits, ledger) and costs the model next to nothing, so that
        its own jitter does not drown the difference.
        """
        body = {"messages": _chat("How long is a piece of string?")["messages"]}
        head = {"anthropic-version": "2023-06-01"}
        through: list[float] = []
        direct: list[float] = []
        with httpx2.Client(base_url=model_url, timeout=PATIENCE_S) as model:
            for _ in range(PAIRS):
                for client, name, times in ((self.client, "demo", through), (model, MODEL_NAME, direct)):
                    began_s = time.perf_counter()
                    answer = client.post("/v1/messages/count_tokens", json={"model": name, **body}, headers=head)
                    times.append(time.perf_counter() - began_s)
                    _require_success(answer)
        noise_s = math.hypot(_error_of_median(through), _error_of_median(direct))
        return Added(median_s=median(through) - median(direct), noise_s=2 * noise_s)


def _error_of_median(values: list[float]) -> float:
    """Standard error of a median, from the median deviation: outliers, of which a busy machine has many, do not count
    (1.4826: median deviation to standard deviation; 1.2533: standard error of the mean to that of the median)."""
    middle = median(values)
    deviation = median(abs(value - middle) for value in values)
    return 1.4826 * 1.2533 * deviation / math.sqrt(len(values))


def _chat(question: str) -> dict[str, Any]:
    return {
        "model": "demo",
        "messages": [{"role": "user", "content": question}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
    }


def _require_success(answer: httpx2.Response) -> None:
    if answer.status_code != 200:
        raise DemoFailed(
            f"the gateway answered {answer.status_code}: {answer.text[:500]}",
            fix="sluicegate doctor; sluicegate service logs",
        )

"""The main job, on a real model: the demo, then the official SDKs through the gateway, every token accounted for."""

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anthropic
import openai
import pytest

from tests.support.cli import Cli, Said
from tests.support.ports import answers, free_port

QUESTION = "Name three rivers in Europe."


@pytest.fixture
def port(data: Path) -> int:
    chosen = free_port()
    data.mkdir(mode=0o700)
    (data / "sluicegate.toml").write_text(f'listen = "127.0.0.1:{chosen}"\nworkers = 2\n')
    return chosen


@pytest.fixture
def demo(sqlite_cli: Cli, port: int) -> Iterator[Said]:
    """The demo's own output; the model and the gateway stay up for the test."""
    try:
        yield sqlite_cli("demo").ok()
    finally:
        sqlite_cli("demo", "--down").ok()
        sqlite_cli("service", "stop").ok()


def model_counters(model_port: int) -> dict[str, int]:
    """What llama.cpp itself counted since its start."""
    with urllib.request.urlopen(f"http://127.0.0.1:{model_port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {name: int(float(value)) for name, value in re.findall(r"^llamacpp:(\w+_total) (\S+)$", text, re.MULTILINE)}


@pytest.mark.timeout(300)
def test_the_whole_job(demo: Said, sqlite_cli: Cli, data: Path, port: int) -> None:
    key = (data / "demo" / "key").read_text().strip()
    url = f"http://127.0.0.1:{port}"
    assert "tokens in" in demo.out
    assert key in demo.out
    assert f"{url}/console/" in demo.out

    reported: list[tuple[int, int]] = [
        (int(tokens_in), int(tokens_out))
        for tokens_in, tokens_out in re.findall(r"(\d+) tokens in · (\d+) out", demo.out)
    ]
    assert len(reported) == 2
    messages = [{"role": "user", "content": QUESTION}]
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
        chat = client.chat.completions.create(model="demo", messages=messages, max_tokens=24, temperature=0)
        assert "Rhine" in chat.choices[0].message.content
        reported.append((chat.usage.prompt_tokens, chat.usage.completion_tokens))
        *chunks, last = client.chat.completions.create(
            model="demo",
            messages=messages,
            max_tokens=24,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == chat.choices[0].message.content
        reported.append((last.usage.prompt_tokens, last.usage.completion_tokens))
    cool = {"temperature": 0}
    with anthropic.Anthropic(base_url=url, api_key=key) as client:
        message = client.messages.create(model="demo", messages=messages, max_tokens=24, extra_body=cool)
        reported.append(
            (message.usage.input_tokens + message.usage.cache_read_input_tokens, message.usage.output_tokens)
        )
        with client.messages.stream(model="demo", messages=messages, max_tokens=24, extra_body=cool) as stream:
            pieces = list(stream.text_stream)
            final = stream.get_final_message()
        assert "".join(pieces) == message.content[0].text
        assert len(pieces) > 3, "it came in one piece"
        reported.append((final.usage.input_tokens + final.usage.cache_read_input_tokens, final.usage.output_tokens))

    sqlite_cli("service", "stop").ok()  # what is spooled is in the ledger then
    (total,) = json.loads(sqlite_cli("usage", "--group-by", "team", "--json").ok().out)
    counted = model_counters(int((data / "demo" / "port").read_text()))
    tokens_in, tokens_out = (sum(each[i] for each in reported) for i in (0, 1))
    assert (total["input_tokens"], total["output_tokens"]) == (tokens_in, tokens_out)
    assert counted["prompt_tokens_total"] + counted["prompt_tokens_cached_total"] == tokens_in
    assert counted["tokens_predicted_total"] == tokens_out
    assert total["team"] == "demo"
    assert total["cost_usd_micros"] > 0
    sqlite_cli("service", "start").ok()


@pytest.mark.timeout(300)
def test_down_leaves_nothing_and_again_works(demo: Said, sqlite_cli: Cli, data: Path) -> None:
    model_port = int((data / "demo" / "port").read_text())
    key = (data / "demo" / "key").read_text()
    again = sqlite_cli("demo").ok()
    assert key.strip() in again.out, "what was pasted from an earlier run still works"
    assert int((data / "demo" / "port").read_text()) == model_port
    sqlite_cli("demo", "--down").ok()
    assert not (data / "demo").exists()
    assert not answers(model_port)
    assert "demo" not in sqlite_cli("export").ok().out
    assert sqlite_cli("demo", "--down").ok().out.strip() == "there is no demo here"


def test_what_is_named_demo_already_is_not_touched(sqlite_cli: Cli, port: int, data: Path) -> None:
    yaml = "teams: [{name: demo, apps: [{name: mine, routes: '*'}]}]\n"
    sqlite_cli("apply", "-f", "-", stdin=yaml).ok()
    before = sqlite_cli("export").ok().out
    try:
        said = sqlite_cli("demo")
        assert said.code == 1
        assert "team demo" in said.err
        assert sqlite_cli("export").ok().out == before
    finally:
        sqlite_cli("demo", "--down").ok()
        sqlite_cli("service", "stop").ok()
    assert sqlite_cli("export").ok().out == before

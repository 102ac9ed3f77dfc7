"""`sluicegate import litellm`: its result passes `apply`, and a request goes through what was imported."""

from pathlib import Path

import httpx2
import pytest

from tests.support import live
from tests.support.cli import Cli
from tests.support.provider import Provider

pytestmark = pytest.mark.timeout(600)  # several commands each, on a machine that others may use too
GOLDEN = Path(__file__).parents[2] / "golden/litellm"
VARIABLES = {
    name: f"sk-{name.lower()}-0123456789"
    for name in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "MISTRAL_API_KEY",
        "OPENROUTER_API_KEY",
        "GROQ_API_KEY",
        "SECOND_KEY",
        "KEY_A",
        "KEY_B",
        "LITELLM_MASTER_KEY",
    )
} | {"OLLAMA_BASE": "http://127.0.0.1:11434"}


@pytest.mark.parametrize("name", sorted(folder.name for folder in GOLDEN.iterdir() if folder.is_dir()))
def test_every_example_passes_apply(sqlite_cli: Cli, tmp_path: Path, name: str) -> None:
    config, made = GOLDEN / name / "config.yaml", tmp_path / "sluicegate.yaml"
    said = sqlite_cli("import", "litellm", str(config), "-o", str(made)).ok()
    assert f"{config}:" in said.err, "what is lost is told with its line"
    assert said.out == ""
    assert made.read_text() == (GOLDEN / name / "expected.yaml").read_text()
    assert "create route" in sqlite_cli("import", "litellm", str(config), "--apply", **VARIABLES).ok().out
    assert "nothing to change" in sqlite_cli("apply", "-f", str(made), "--dry-run", **VARIABLES).ok().err


def test_a_request_through_what_was_imported(tmp_path: Path) -> None:
    with Provider() as provider, live.gateway(tmp_path, "{}", workers=1) as running:
        config = f"""
model_list:
  - model_name: gpt-4
    litellm_params: {{model: openai/tiny, api_base: "{provider.url}/v1", api_key: os.environ/THEIR_KEY, rpm: 60}}
general_settings: {{master_key: sk-the-master-key}}
"""
        elsewhere = Cli(tmp_path / "none", env={"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": running.token})
        said = elsewhere("import", "litellm", "-", "--apply", stdin=config, THEIR_KEY="sk-theirs").ok()
        assert "create route gpt-4" in said.out

        def answered() -> bool:
            answer = httpx2.post(
                running.url + "/v1/chat/completions",
                headers={"authorization": "Bearer sk-the-master-key"},
                json={"model": "gpt-4", "messages": [{"role": "user", "content": "Hello"}]},
            )
            return answer.status_code == 200

        running.until(answered, 5)
        assert provider.requests[-1].header("authorization") == "Bearer sk-theirs"
        assert running.api.get("/api/v1/limits/openai-tiny-rpm/state").json()["used"] >= 1


def test_what_carries_nothing_over_is_refused(sqlite_cli: Cli) -> None:
    said = sqlite_cli("import", "litellm", "-", stdin="model_list: [{model_name: a, litellm_params: {model: azure/b}}]")
    assert said.code == 1
    assert "stdin:1:" in said.err
    assert "azure" in said.err
    assert said.out == ""

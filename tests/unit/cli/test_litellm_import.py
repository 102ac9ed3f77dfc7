"""LiteLLM's configuration as ours: golden files, and every refusal named with its line."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from gateway.cli.litellm.convert import convert
from gateway.errors import BadRequest

GOLDEN = Path(__file__).parents[2] / "golden/litellm"
CASES = sorted(folder for folder in GOLDEN.iterdir() if folder.is_dir())


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_golden(folder: Path) -> None:
    converted = convert((folder / "config.yaml").read_text(), file="config.yaml")
    assert converted.text == (folder / "expected.yaml").read_text()
    assert YAML(typ="safe").load(converted.text) == converted.document
    said = [f"note {remark.line}: {remark.what}: {remark.text}" for remark in converted.report.notes]
    said += [f"lost {remark.line}: {remark.what}: {remark.text}" for remark in converted.report.lost]
    assert "\n".join(said) + "\n" == (folder / "expected.txt").read_text()


def document(models: str, rest: str = "") -> dict[str, Any]:
    return convert(f"model_list:\n{models}\n{rest}", file="x").document


def test_nothing_of_the_file_is_passed_over_in_silence() -> None:
    """Every leaf is carried over or reported: unknown settings of tomorrow too."""
    entry = "- model_name: a\n  new_thing: 1\n  litellm_params: {model: openai/b, brand_new: 2}\n"
    text = f"model_list:\n{entry}world: {{x: 1}}\n"
    converted = convert(text, file="x")
    lost = {(each.line, each.what) for each in converted.report.lost}
    assert lost == {
        (3, "model_list[0].new_thing"),
        (4, "model_list[0].litellm_params.brand_new"),
        (5, "world"),
    }


def test_a_dollar_sign_stays_one() -> None:
    made = document('- {model_name: a, litellm_params: {model: openai/b, api_key: "sk-$x{y}"}}')
    assert made["providers"][0]["credentials"][0]["value"] == "sk-$$x{y}"


@pytest.mark.parametrize(
    "text", ["- 1", "model_list: 5", "model_list: [x]", "a: [", "model_list:\n- litellm_params: x"]
)
def test_what_is_not_litellms_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        convert(text, file="x")

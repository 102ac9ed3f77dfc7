"""Ready-to-paste calls of the demo's route, in the three ways that people try first."""

from typing import Final

CURL: Final = """\
curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
  -d '{{"model": "demo", "messages": [{{"role": "user", "content": "What is a river?"}}], "max_tokens": 64}}'"""

OPENAI: Final = """\
from openai import OpenAI

client = OpenAI(base_url="{url}/v1", api_key="{key}")
chat = client.chat.completions.create(
    model="demo", messages=[{{"role": "user", "content": "What is a river?"}}], max_tokens=64
)
print(chat.choices[0].message.content)"""

ANTHROPIC: Final = """\
from anthropic import Anthropic

client = Anthropic(base_url="{url}", api_key="{key}")
message = client.messages.create(
    model="demo", messages=[{{"role": "user", "content": "What is a river?"}}], max_tokens=64
)
print(message.content[0].text)"""


def snippets(url: str, key: str) -> list[tuple[str, str, str]]:
    """(title, language, text) of each."""
    return [
        ("curl", "bash", CURL.format(url=url, key=key)),
        ("OpenAI SDK   pip install openai", "python", OPENAI.format(url=url, key=key)),
        ("Anthropic SDK   pip install anthropic", "python", ANTHROPIC.format(url=url, key=key)),
    ]

"""Which provider a LiteLLM model string means (docs.litellm.ai, "Providers"), as far as Sluicegate speaks its dialect.

Whoever is not listed here is reported and never guessed: Azure, Bedrock, Vertex and others sign or address requests in
ways of their own.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Vendor:
    dialect: str
    base_url: str | None = None
    """None: LiteLLM has none either, `api_base` must say it."""
    key_variable: str | None = None
    """The variable that LiteLLM reads where no `api_key` stands; None: no key is needed."""


_OPENAI_LIKE: Final = Vendor("openai")

VENDORS: Final = {
    "openai": Vendor("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "text-completion-openai": Vendor("openai", "https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Vendor("anthropic", "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
    "gemini": Vendor("gemini", "https://generativelanguage.googleapis.com", "GEMINI_API_KEY"),
    "mistral": Vendor("mistral", "https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "codestral": Vendor("mistral", "https://codestral.mistral.ai/v1", "CODESTRAL_API_KEY"),
    "ollama": Vendor("ollama", "http://localhost:11434"),
    "ollama_chat": Vendor("ollama", "http://localhost:11434"),
    # They serve OpenAI's dialect under a base URL that ends with its version.
    "groq": Vendor("openai", "https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "deepseek": Vendor("openai", "https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "together_ai": Vendor("openai", "https://api.together.xyz/v1", "TOGETHERAI_API_KEY"),
    "openrouter": Vendor("openai", "https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "fireworks_ai": Vendor("openai", "https://api.fireworks.ai/inference/v1", "FIREWORKS_AI_API_KEY"),
    "xai": Vendor("openai", "https://api.x.ai/v1", "XAI_API_KEY"),
    "cerebras": Vendor("openai", "https://api.cerebras.ai/v1", "CEREBRAS_API_KEY"),
    "nvidia_nim": Vendor("openai", "https://integrate.api.nvidia.com/v1", "NVIDIA_NIM_API_KEY"),
    "sambanova": Vendor("openai", "https://api.sambanova.ai/v1", "SAMBANOVA_API_KEY"),
    # Servers of one's own.
    "hosted_vllm": _OPENAI_LIKE,
    "openai_like": _OPENAI_LIKE,
    "custom_openai": _OPENAI_LIKE,
    "litellm_proxy": _OPENAI_LIKE,
    "lm_studio": _OPENAI_LIKE,
    "llamafile": _OPENAI_LIKE,
    "xinference": _OPENAI_LIKE,
    "infinity": _OPENAI_LIKE,
}

_BARE: Final = (
    (("gpt-", "chatgpt-", "o1", "o3", "o4", "text-embedding-", "dall-e-", "whisper-", "tts-", "omni-"), "openai"),
    (("claude-",), "anthropic"),
)
"""How names without a prefix begin, which LiteLLM knows from its own list."""


def vendor_name(model: str, custom: str | None) -> tuple[str | None, str]:
    """The vendor's name in LiteLLM's words (None: cannot be told) and the model as the vendor knows it."""
    prefix, slash, rest = model.partition("/")
    if custom:
        return custom, rest if slash and prefix == custom else model
    if slash and prefix in VENDORS:
        return prefix, rest
    if not slash:
        for beginnings, name in _BARE:
            if model.startswith(beginnings):
                return name, model
        return None, model
    return prefix, rest

"""The demo's upstream: llama.cpp's own server in a process, `python -m gateway.demo.model_server MODEL PORT`.

It answers OpenAI chat, completions and responses, and Anthropic messages, on loopback. Gemma 3 270M as packed on PyPI
is a base model that only continues texts: the chat template frames a conversation as questions and answers, with two
examples, which is what lets so small a model answer at all.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Final

MODEL_NAME: Final = "gemma-3-270m"
CONTEXT_TOKENS: Final = 8192
SLOTS: Final = 2
MOST_THREADS: Final = 4

CHAT_TEMPLATE: Final = """\
{{ bos_token }}A conversation with a helpful, knowledgeable assistant who answers briefly and accurately.

Q: What is the capital of France?
A: Paris is the capital of France.

Q: Why is the sky blue?
A: Air scatters blue light more strongly than red light, so we see blue from every direction.

{% for message in messages %}{% if message['role'] == 'assistant' %}A: {{ message['content'] }}

{% elif message['role'] == 'user' %}Q: {{ message['content'] }}
{% else %}{{ message['content'] }}

{% endif %}{% endfor %}{% if add_generation_prompt %}A:{% endif %}"""


def main() -> None:
    """Serve until SIGTERM. Prints the address once the model is loaded."""
    # Blocked before llama.cpp starts its threads, so that none of them takes the signal instead of sigwait below.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    import xllamacpp

    model, port = Path(sys.argv[1]), int(sys.argv[2])
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    params.model_alias = {MODEL_NAME}
    params.hostnames = ["127.0.0.1"]
    params.port = port
    params.n_ctx = CONTEXT_TOKENS
    params.n_parallel = SLOTS
    params.endpoint_metrics = True
    # One core is left to the gateway, and on a busy machine threads that wait for one another would crawl.
    threads = max(1, min(MOST_THREADS, (os.cpu_count() or 1) - 1))
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.chat_template = CHAT_TEMPLATE
    params.antiprompt = ["\nQ:", "\n\n"]
    server = xllamacpp.Server(params)
    print(f"{MODEL_NAME} at {server.listening_address}", flush=True)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    os._exit(0)  # nothing to save; llama.cpp's own shutdown waits for answers in progress


if __name__ == "__main__":
    main()

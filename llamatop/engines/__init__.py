"""Conversations with the inference servers: sans-IO, pure, Python 3.8, standard library only.

Each module has `NAME`, `DEFAULT_PORTS`, `read(memory, key)` for one tick, and `check(memory)` for
a second connection while `read` waits for a slow answer. A driver sends each yielded `Request`,
hands back a `Response` and gets a WorkerSample-shaped dict as the generator's return value.
"""

from . import llama_server, ollama, vllm

ENGINES = {module.NAME: module for module in (llama_server, ollama, vllm)}

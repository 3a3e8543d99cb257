"""How a worker was started, from the words of a command and an environment. Pure."""

from __future__ import annotations

import re

from . import launch_memory, unit_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

_LLAMA_SERVER = re.compile(r"llama-server([-._].*)?$")
_SHELLS = ("sh", "bash", "dash", "zsh", "ksh", "busybox")
_LOADERS = ("python", "ld-linux", "ld-musl")
_CUT = re.compile(r"^(\||\|\||&|&&|;|\d*>.*|<.*)$")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*$")

_LLAMA_FLAGS = {
    "model": ("-m", "--model", "LLAMA_ARG_MODEL"),
    "repository": ("-hf", "-hfr", "--hf-repo", "LLAMA_ARG_HF_REPO"),
    "model_url": ("-mu", "--model-url", "LLAMA_ARG_MODEL_URL"),
    "alias": ("-a", "--alias", "LLAMA_ARG_ALIAS"),
    "host": ("--host", "LLAMA_ARG_HOST"),
    "port": ("--port", "LLAMA_ARG_PORT"),
    "parallel": ("-np", "--parallel", "LLAMA_ARG_N_PARALLEL"),
    "context_tokens": ("-c", "--ctx-size", "LLAMA_ARG_CTX_SIZE"),
    "split_mode": ("-sm", "--split-mode", "LLAMA_ARG_SPLIT_MODE"),
    "tensor_split": ("-ts", "--tensor-split", "LLAMA_ARG_TENSOR_SPLIT"),
    "main_gpu": ("-mg", "--main-gpu", "LLAMA_ARG_MAIN_GPU"),
    "devices": ("-dev", "--device", "LLAMA_ARG_DEVICE"),
    "gpu_layers": ("-ngl", "--gpu-layers", "--n-gpu-layers", "LLAMA_ARG_N_GPU_LAYERS"),
    "key": ("--api-key", "LLAMA_API_KEY"),
    "key_file": ("--api-key-file", "LLAMA_ARG_API_KEY_FILE"),
    "prefix": ("--api-prefix", "LLAMA_ARG_API_PREFIX"),
    "sleep": ("--sleep-idle-seconds", "LLAMA_ARG_SLEEP_IDLE_SECONDS"),
    "tls": ("--ssl-key-file", "LLAMA_ARG_SSL_KEY_FILE"),
    **launch_memory.FLAGS,
}
_VLLM_FLAGS = {
    "model": ("--model",),
    "alias": ("--served-model-name",),
    "host": ("--host",),
    "port": ("--port",),
    "parallel": ("--max-num-seqs",),
    "context_tokens": ("--max-model-len",),
    "tensor_parallel": ("-tp", "--tensor-parallel-size"),
    "key": ("--api-key", "VLLM_API_KEY"),
    "prefix": ("--root-path",),
    "tls": ("--ssl-keyfile",),
}
_TAKING = frozenset(flag for flags in _LLAMA_FLAGS.values() for flag in flags)
_SHORT = frozenset(("-t", "-tb", "-n", "-hft")) | launch_memory.SWITCHES
_LONG = re.compile(r"--[a-z0-9][a-z0-9-]*$")
_HIDES = re.compile(r"key|token|secret|passw|auth|-hft")
_TRUE = ("1", "true", "on", "enabled")
_SECRET = ("key", "key_file", "prefix", "sleep", "tls")
_NUMBERS = (
    *("port", "parallel", "context_tokens", "main_gpu", "tensor_parallel"),
    *launch_memory.NUMBERS,
)


class Found:
    """An engine found in a command: its name, the words after it, what `env` set before it."""

    __slots__ = ("arguments", "engine", "environment")

    def __init__(self, engine: str, arguments: List[str], environment: Dict[str, str]) -> None:
        self.engine = engine
        self.arguments = arguments
        self.environment = environment


def find(command: List[str], depth: int = 0) -> Found | None:
    """The engine that `command` starts, through any wrapper (env, nice, sh -c), or None."""
    environment: Dict[str, str] = {}
    for position, word in enumerate(command):
        base = word.rpartition("/")[2]
        rest = command[position + 1 :]
        found = _at(command, position)
        if found is not None:
            found.environment = environment
            return found
        if base in _SHELLS and depth < 3:
            inner = _script(rest, depth)
            if inner is not None:
                inner.environment = {**environment, **inner.environment}
                return inner
        name, equals, value = word.partition("=")
        if equals and _NAME.match(name):
            environment[name] = value
    return None


def running(words: List[str]) -> Found | None:
    """The engine that a process itself is, None for one whose words only speak of an engine.

    `journalctl -u llama-server-gpu0` is none, and neither is the shell that starts one: what it
    starts is a process of its own.
    """
    position = 0
    if words and words[0].rpartition("/")[2].startswith(_LOADERS):
        position = 1
        while position < len(words) and words[position][:1] == "-" and words[position] != "-m":
            position += 1
    return _at(words, position) if position < len(words) else None


def through_shell(command: List[str]) -> bool:
    """Whether a shell is in the command, which may set and change what it likes."""
    return any(word.rpartition("/")[2] in _SHELLS for word in command)


def _at(command: List[str], position: int) -> Found | None:
    word = command[position]
    base = word.rpartition("/")[2]
    rest = command[position + 1 :]
    following = rest[0] if rest else ""
    if _LLAMA_SERVER.match(base):
        return Found("llama-server", rest, {})
    if base == "llama" and following in ("serve", "server"):
        return Found("llama-server", rest[1:], {})
    if base == "ollama" and following in ("serve", "start"):
        return Found("ollama", rest[1:], {})
    if base == "vllm" and following == "serve":
        return Found("vllm", rest[1:], {})
    if word == "-m" and following.startswith("vllm.entrypoints"):
        return Found("vllm", rest[1:], {})
    return None


def _script(rest: List[str], depth: int) -> Found | None:
    for position, word in enumerate(rest):
        if word.startswith("-") and word.endswith("c") and position + 1 < len(rest):
            script = rest[position + 1].replace("\n", " ; ")
            inner = find(unit_text.words(script), depth + 1)
            if inner is not None:
                inner.arguments = _until_cut(inner.arguments)
            return inner
        if not word.startswith("-"):
            return None
    return None


def _until_cut(words: List[str]) -> List[str]:
    kept: List[str] = []
    for word in words:
        if _CUT.match(word):
            break
        if word.endswith(";"):
            kept.append(word[:-1])
            break
        kept.append(word)
    return kept


def describe(found: Found, environment: Dict[str, str]) -> Dict[str, Any]:
    """Launch fields, and with a leading underscore what only the node may know (the key).

    A flag wins over its variable, what `env` set wins over the unit's environment.
    """
    variables = {**environment, **found.environment}
    if found.engine == "ollama":
        told = _ollama(variables)
    elif found.engine == "vllm":
        told = _flags(_VLLM_FLAGS, found.arguments, variables)
        if "model" not in told and found.arguments and not found.arguments[0].startswith("-"):
            told["model"] = found.arguments[0]
    else:
        told = _flags(_LLAMA_FLAGS, found.arguments, variables)
        told["metrics"] = _switched(found.arguments, variables, "metrics", "METRICS", False)
        told["slots_endpoint"] = _switched(found.arguments, variables, "slots", "SLOTS", True)
        for other in ("repository", "model_url"):
            value = told.pop(other, None)
            told.setdefault("model", value)
        told["mlock"] = _mlock(found.arguments, variables)
        told.update(launch_memory.describe(found.arguments, variables))
    told["cuda_visible_devices"] = variables.get("CUDA_VISIBLE_DEVICES")
    told["cuda_device_order"] = variables.get("CUDA_DEVICE_ORDER")
    for name in _NUMBERS:
        if name in told:
            told[name] = _number(told[name])
    secret = {name: told.pop(name, None) for name in _SECRET}
    told.update({"_" + name: value for name, value in secret.items()})
    return {name: value for name, value in told.items() if value is not None}


def telling(flag: str) -> bool:
    """Whether a llama-server's option is one whose value is told of each worker anyway."""
    return any(
        flag in flags and name not in (*_SECRET, "model_url")
        for name, flags in _LLAMA_FLAGS.items()
    )


def takes_value(flag: str) -> bool:
    """Whether the word after a llama-server's option is its value, whatever it looks like."""
    return flag in _TAKING or _HIDES.search(flag) is not None


def known(flag: str) -> bool:
    """Whether a word is an option of llama-server, by its form or by name."""
    return _LONG.match(flag) is not None or flag in _TAKING or flag in _SHORT


def _flags(
    table: Dict[str, Any], arguments: List[str], variables: Dict[str, str]
) -> Dict[str, Any]:
    names = {flag: field for field, flags in table.items() for flag in flags}
    told: Dict[str, Any] = {}
    for flag, field in names.items():
        if not flag.startswith("-") and variables.get(flag):
            told[field] = variables[flag]
    position = 0
    while position < len(arguments):
        flag, equals, value = arguments[position].partition("=")
        position += 1
        if flag not in names or not flag.startswith("-"):
            continue
        if not equals:
            if position >= len(arguments):
                break
            value = arguments[position]
            position += 1
        told[names[flag]] = value
    return told


def _switched(
    arguments: List[str], variables: Dict[str, str], flag: str, variable: str, default: bool
) -> bool:
    value = default
    given = variables.get("LLAMA_ARG_ENDPOINT_" + variable)
    if given is not None:
        value = given.lower() in _TRUE
    if variables.get("LLAMA_ARG_NO_ENDPOINT_" + variable) is not None:
        value = False
    for word in arguments:
        if word == "--" + flag:
            value = True
        elif word == "--no-" + flag:
            value = False
    return value


def _mlock(arguments: List[str], variables: Dict[str, str]) -> bool:
    given = variables.get("LLAMA_ARG_MLOCK", "").lower() in _TRUE
    return given or "--mlock" in arguments


def _ollama(variables: Dict[str, str]) -> Dict[str, Any]:
    told: Dict[str, Any] = {}
    given = variables.get("OLLAMA_HOST", "").strip("\"' ")
    given = given.partition("://")[2] or given
    host, _, port = given.partition("/")[0].rpartition(":")
    if not host and not port.isdigit():
        host, port = port, ""
    elif given.count(":") > 1 and not given.startswith("["):
        host, port = given, ""
    told["host"] = host.strip("[]") or None
    told["port"] = port or None
    told["parallel"] = variables.get("OLLAMA_NUM_PARALLEL")
    told["context_tokens"] = variables.get("OLLAMA_CONTEXT_LENGTH")
    return {name: value for name, value in told.items() if value is not None}


def _number(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError):
        return None

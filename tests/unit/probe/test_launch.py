"""How a worker was started, through the wrappers and settings of the field."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from llamatop.probe import launch


def told(command: str, **environment: str) -> dict[str, Any]:
    found = launch.find(shlex.split(command))
    assert found is not None
    return {"engine": found.engine, **launch.describe(found, environment)}


@pytest.mark.parametrize(
    "command",
    [
        "/opt/llama-server -m /m.gguf --port 37081",
        "numactl --cpunodebind=0 --membind 0 /opt/llama-server -m /m.gguf --port 37081",
        "/usr/bin/env -i CUDA_VISIBLE_DEVICES=1 llama-server -m /m.gguf --port 37081",
        "/bin/sh -c 'exec /opt/llama-server -m /m.gguf --port 37081 >/dev/null 2>&1'",
        "bash -lc 'cd /srv && CUDA_VISIBLE_DEVICES=1 ./llama-server -m /m.gguf --port 37081; true'",
        "nice -n 5 taskset -c 0-7 llama-server-cuda -m /m.gguf --port 37081",
        "nice sh -c \"numactl -N 0 sh -c 'llama-server -m /m.gguf --port 37081'\"",
        "llama-server --port=37081 --model=/m.gguf",
        "/usr/bin/llama serve -m /m.gguf --port 37081",
    ],
)
def test_a_llama_server_is_found_behind_any_wrapper(command: str) -> None:
    found = told(command)
    assert found["engine"] == "llama-server"
    assert (found["model"], found["port"]) == ("/m.gguf", 37081)


def test_what_env_sets_wins_over_the_units_environment() -> None:
    command = "env CUDA_VISIBLE_DEVICES=1 llama-server -m /m.gguf"
    assert told(command, CUDA_VISIBLE_DEVICES="0")["cuda_visible_devices"] == "1"


def test_all_that_flags_say() -> None:
    found = told(
        "llama-server -m /m.gguf -a name --host 0.0.0.0 --port 1 -np 4 -c 8192 -sm row -ts 3,1"
        " -mg 1 -dev CUDA0,CUDA1 -ngl 99 --metrics --no-slots"
    )
    assert found == {
        "engine": "llama-server",
        "model": "/m.gguf",
        "alias": "name",
        "host": "0.0.0.0",
        "port": 1,
        "parallel": 4,
        "context_tokens": 8192,
        "split_mode": "row",
        "tensor_split": "3,1",
        "main_gpu": 1,
        "devices": "CUDA0,CUDA1",
        "gpu_layers": "99",
        "metrics": True,
        "slots_endpoint": False,
        "mlock": False,
    }


@pytest.mark.parametrize(
    ("command", "field", "value"),
    [
        ("-ctk q8_0", "cache_type_k", "q8_0"),
        ("--cache-type-v=q4_0", "cache_type_v", "q4_0"),
        ("-b 512", "batch_tokens", 512),
        ("--ubatch-size 256", "ubatch_tokens", 256),
        ("-fa on", "flash_attention", "on"),
        ("-fa -np 2", "flash_attention", "on"),
        ("-np 2 -fa", "flash_attention", "on"),
        ("--flash-attn=0", "flash_attention", "off"),
        ("-fa auto", "flash_attention", "auto"),
        ("-np 2", "flash_attention", None),
        ("-kvu", "kv_unified", True),
        ("--kv-unified --no-kv-unified", "kv_unified", False),
        ("-np 2", "kv_unified", None),
        ("-nkvo", "kv_offload", False),
        ("--swa-full", "window_full", True),
        ("-md /d.gguf --cpu-moe", "extras", ["--model-draft", "--cpu-moe"]),
        ("-ot exps=CPU", "extras", ["--override-tensor"]),
        ("-np 2", "extras", None),
        ("--spec-type ngram-simple", "extras", None),
        ("--spec-type ngram-mod,draft-mtp", "extras", ["--spec-type"]),
    ],
)
def test_what_decides_about_memory(command: str, field: str, value: object) -> None:
    assert told("llama-server -m /m.gguf " + command).get(field) == value


def test_what_decides_about_memory_may_stand_in_the_environment() -> None:
    variables = {
        "LLAMA_ARG_CACHE_TYPE_K": "q8_0",
        "LLAMA_ARG_UBATCH": "1024",
        "LLAMA_ARG_FLASH_ATTN": "off",
        "LLAMA_ARG_KV_UNIFIED": "1",
        "LLAMA_ARG_SWA_FULL": "true",
        "LLAMA_ARG_NO_KV_OFFLOAD": "1",
        "LLAMA_ARG_N_CPU_MOE": "4",
    }
    found = told("llama-server -m /m.gguf --no-kv-unified -fa on", **variables)
    assert (found["cache_type_k"], found["ubatch_tokens"]) == ("q8_0", 1024)
    assert (found["flash_attention"], found["kv_unified"]) == ("on", False)
    assert (found["window_full"], found["kv_offload"]) == (True, False)
    assert found["extras"] == ["--n-cpu-moe"]


def test_a_flag_wins_over_its_variable() -> None:
    environment = {
        "LLAMA_ARG_PORT": "1",
        "LLAMA_ARG_CTX_SIZE": "4096",
        "LLAMA_ARG_N_PARALLEL": "2",
        "LLAMA_ARG_ENDPOINT_METRICS": "1",
        "LLAMA_ARG_HF_REPO": "org/model:Q4",
    }
    found = told("llama-server --port 2", **environment)
    assert (found["port"], found["context_tokens"], found["parallel"]) == (2, 4096, 2)
    assert found["metrics"] is True
    assert found["model"] == "org/model:Q4"


def test_a_key_is_kept_apart_from_what_leaves_the_node() -> None:
    found = told("llama-server --api-key sekret --sleep-idle-seconds 60", LLAMA_API_KEY="other")
    assert found["_key"] == "sekret"
    assert found["_sleep"] == "60"
    public = {name: value for name, value in found.items() if not name.startswith("_")}
    assert "sekret" not in str(public)
    assert "other" not in str(public)


def test_a_port_that_is_no_number_is_unknown() -> None:
    assert "port" not in told("llama-server --port ${PORT}")


@pytest.mark.parametrize(
    ("given", "host", "port"),
    [
        ("127.0.0.1:11500", "127.0.0.1", 11500),
        ("0.0.0.0", "0.0.0.0", None),
        (":11500", None, 11500),
        ("http://10.0.0.1:80/", "10.0.0.1", 80),
        ("[::1]:11434", "::1", 11434),
        ("::", "::", None),
        ("11500", None, 11500),
    ],
)
def test_ollamas_host(given: str, host: str | None, port: int | None) -> None:
    found = told("/usr/local/bin/ollama serve", OLLAMA_HOST=given, OLLAMA_NUM_PARALLEL="4")
    assert found["engine"] == "ollama"
    assert (found.get("host"), found.get("port"), found["parallel"]) == (host, port, 4)


@pytest.mark.parametrize(
    "command",
    [
        "/v/bin/vllm serve Qwen/Qwen3-8B --port 8001 -tp 2 --max-model-len 4096",
        "/v/bin/python3 /v/bin/vllm serve Qwen/Qwen3-8B --port 8001 --tensor-parallel-size=2"
        " --max-model-len 4096",
        "python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-8B --port 8001 -tp 2"
        " --max-model-len 4096",
    ],
)
def test_vllm(command: str) -> None:
    found = told(command)
    assert found["engine"] == "vllm"
    assert found["model"] == "Qwen/Qwen3-8B"
    assert (found["port"], found["tensor_parallel"], found["context_tokens"]) == (8001, 2, 4096)


@pytest.mark.parametrize(
    "command",
    [
        "/usr/sbin/nginx -g 'daemon on;'",
        "llama-swap --config /etc/llama-server/x.yaml",
        "vim /opt/llama-server.service.bak/x",
        "ollama run llama3",
        "sh -c 'echo hello'",
        "",
    ],
)
def test_other_programs_are_no_engines(command: str) -> None:
    assert launch.find(shlex.split(command)) is None


@pytest.mark.parametrize(
    ("command", "engine"),
    [
        ("/opt/llama/llama-server -m x --port 1", "llama-server"),
        ("/usr/local/bin/ollama serve", "ollama"),
        ("/usr/bin/python3.11 -u /usr/bin/vllm serve m", "vllm"),
        ("python3 -m vllm.entrypoints.openai.api_server --model m", "vllm"),
        ("/lib64/ld-linux-x86-64.so.2 /opt/llama-server -m x", "llama-server"),
        ("journalctl -f -u llama-server-gpu0", None),
        ("sudo -n systemctl restart llama-server-gpu0.service", None),
        ("bash -c 'systemctl stop llama-server-gpu0; sleep 3'", None),
        ("vim /etc/systemd/system/llama-server", None),
        ("python3 -u", None),
        ("", None),
    ],
)
def test_a_process_that_only_speaks_of_an_engine_is_none(command: str, engine: str | None) -> None:
    found = launch.running(shlex.split(command))
    assert (found.engine if found is not None else None) == engine

"""What a process runs with otherwise than its unit says; a key's value is never told."""

from __future__ import annotations

import shlex

import pytest

from llamatop.probe import launch, outdated


def differing(unit: str, process: str) -> list[str]:
    running = launch.running(shlex.split(process))
    assert running is not None
    return outdated.options(shlex.split(unit), running)


RUNS = "/opt/llama-server -m /m.gguf --port 37081 -c 8192 --metrics"


@pytest.mark.parametrize(
    ("unit", "names"),
    [
        (RUNS, []),
        ("nice -n 5 env CUDA_VISIBLE_DEVICES=0 " + RUNS, []),
        ("/opt/llama-server --metrics -c 8192 --port 37081 -m /m.gguf", []),
        (RUNS.replace("8192", "4096"), ["-c (runs with 8192, now 4096)"]),
        (RUNS.replace(" --metrics", ""), ["--metrics"]),
        (RUNS + " --flash-attn on", ["--flash-attn"]),
        (RUNS + " --api-key hunter2", ["--api-key"]),
        (RUNS + " --hf-token hunter2", ["--hf-token"]),
        # A shell or systemd may have made these the same.
        (RUNS.replace("8192", "${CONTEXT}"), []),
        (f"sh -c 'exec {RUNS} --flash-attn on'", []),
        ("/usr/local/bin/run-llama", []),
        ("/usr/bin/ollama serve", []),
    ],
)
def test_options(unit: str, names: list[str]) -> None:
    found = differing(unit, RUNS)
    assert found == names
    assert "hunter2" not in str(found)


def test_a_key_that_was_changed_is_named_alone() -> None:
    (found,) = differing(RUNS + " --api-key new", RUNS + " --api-key old")
    assert found == "--api-key"


@pytest.mark.parametrize("option", ["--api-key", "--hf-token", "--api-key-file", "--some-new-key"])
@pytest.mark.parametrize("secret", ["-{}SECRET", "--{}secret", "-{}", "-{}=SECRET", "-1{}"])
def test_a_secret_that_looks_like_an_option_is_none(option: str, secret: str) -> None:
    old, new = (f"{RUNS} {option} {secret.format(word)} -c 1" for word in ("old", "new"))
    assert differing(new, old) == [option]
    assert differing(new, new) == []


def test_words_that_no_option_takes_are_not_told() -> None:
    assert differing(RUNS + " -c 1 SECRET", RUNS + " -c 1") == ["its arguments"]
    assert differing(RUNS + " -SECRET --SECRET -abc --x=SECRET", RUNS) == ["another option", "--x"]


def test_variables() -> None:
    runs = {"CUDA_VISIBLE_DEVICES": "0", "LLAMA_API_KEY": "old", "PATH": "/bin"}
    said = {"CUDA_VISIBLE_DEVICES": "0,1", "LLAMA_API_KEY": "new", "PATH": "/usr/bin"}
    assert outdated.variables(said, runs) == [
        "CUDA_VISIBLE_DEVICES (runs with 0, now 0,1)",
        "LLAMA_API_KEY",
    ]
    assert outdated.variables(runs, runs) == []

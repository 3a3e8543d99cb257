"""Operations on a fleet, most of whose probes are held within the demo's process."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from urllib.request import urlopen

from .conftest import Demo
from .test_end_to_end import llamatop, status, workers

WORKER = "node5/gpu0"
# Unanswered, a look takes 15 s before it fails, and a drain waits for ever.
QUICK_SECONDS = 60.0


def test_a_worker_beyond_the_first_node_is_drained_and_restarted(
    own_demo: Callable[..., Demo],
) -> None:
    demo = own_demo("--nodes", "9", "--gpus", "1")
    before = workers(status(demo))[WORKER]
    for words in (("drain",), ("restart", "--now")):
        began = time.monotonic()
        done = llamatop(demo, words[0], WORKER, "--yes", *words[1:])
        taken = time.monotonic() - began
        print(f"{words[0]}: {taken:.1f} s\n{done.stderr}")
        assert done.returncode == 0, done.stdout + done.stderr
        assert taken < QUICK_SECONDS
    after = workers(status(demo))[WORKER]
    assert (before["membership"], after["membership"]) == ("in", "down")
    assert after["health"] == "ok"
    assert after["main_pid"] != before["main_pid"]


def test_a_fleets_two_models_have_an_upstream_each(own_demo: Callable[..., Demo]) -> None:
    demo = own_demo("--nodes", "9", "--gpus", "1")
    sample = status(demo)
    other = {
        name for name, worker in workers(sample).items() if worker["model"].startswith("llama")
    }
    assert other == {"node4/gpu0", "node8/gpu0"}
    assert {worker["membership"] for worker in workers(sample).values()} == {"in"}
    front = f"http://{demo.addresses['node1']}:8080"
    for path, name in (("", "qwen2.5"), ("/llama_8b", "llama-3.1")):
        with urlopen(f"{front}{path}/v1/models", timeout=QUICK_SECONDS) as answer:
            assert json.load(answer)["data"][0]["id"].startswith(name)
    told = llamatop(demo, "doctor", "--json")
    assert (told.returncode, json.loads(told.stdout)["findings"]) == (0, [])

"""Its units, journal, cards and nginx, through the commands that llamatop calls."""

from __future__ import annotations

import json
import threading
import time
from http.client import HTTPConnection

import pytest

from .conftest import Demo, until


def show(demo: Demo, unit: str, *names: str, node: str = "node1") -> dict[str, str]:
    text = demo.out(node, f"systemctl show -p {','.join(names)} -- {unit}")
    return dict(line.split("=", 1) for line in text.splitlines())


def get(demo: Demo, path: str, port: int = 37081, node: str = "node1") -> tuple[int, bytes]:
    link = HTTPConnection(demo.addresses[node], port, timeout=30)
    link.request("GET", path)
    answer = link.getresponse()
    return answer.status, answer.read()


def cards(demo: Demo, node: str) -> list[int]:
    query = "nvidia-smi --query-gpu=utilization.gpu --format=csv,noheader,nounits"
    return [int(line) for line in demo.out(node, query).splitlines()]


def test_per_gpu_cards_are_full_and_layer_split_cards_are_half_full(demo: Demo) -> None:
    assert all(value >= 90 for value in cards(demo, "node1"))
    first, second = cards(demo, "node2")
    assert 45 <= second < first <= 56


def test_stop_start_and_loading_are_seen(demo: Demo) -> None:
    unit = "llama-server-gpu1.service"
    before = show(demo, unit, "MainPID", "ActiveState")
    assert before["ActiveState"] == "active"
    assert demo.ssh("node1", f"sudo -n systemctl stop {unit}").returncode == 0
    assert show(demo, unit, "ActiveState", "SubState", "MainPID") == {
        "ActiveState": "inactive",
        "SubState": "dead",
        "MainPID": "0",
    }
    with pytest.raises(ConnectionRefusedError):
        get(demo, "/health", 37082)
    demo.out("node1", f"systemctl start {unit}")
    status, body = get(demo, "/slots", 37082)
    assert (status, json.loads(body)["error"]["message"]) == (503, "Loading model")
    until(lambda: get(demo, "/health", 37082)[0] == 200)
    after = show(demo, unit, "MainPID", "ActiveState")
    assert after["MainPID"] not in ("0", before["MainPID"])
    log = demo.out("node1", f"journalctl -u {unit} -n 200 -o short-iso")
    assert "Stopped llama-server-gpu1.service" in log
    assert "llama_server: model loaded" in log


def test_a_unit_that_does_not_exist_is_not_found(demo: Demo) -> None:
    shown = show(demo, "nothing.service", "Id", "LoadState")
    assert shown == {"Id": "nothing.service", "LoadState": "not-found"}
    refused = demo.ssh("node1", "systemctl start nothing")
    assert (refused.returncode, refused.stderr) == (
        5,
        "Failed to start nothing.service: Unit nothing.service not found.\n",
    )


def test_a_follower_of_the_journal_hears_what_comes(demo: Demo) -> None:
    done = demo.ssh("node1", "journalctl -u llama-server-gpu0 -n 1 -f -o short-iso | head -n 8")
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert all(" node1 llama-server[" in line for line in lines)


class Stream(threading.Thread):
    """A client of the front socket that counts the tokens of one streamed answer."""

    def __init__(self, host: str, tokens: int) -> None:
        super().__init__(daemon=True)
        self.link = HTTPConnection(host, 8080, timeout=180)
        self.tokens = tokens
        self.begun = threading.Event()
        self.seen = 0
        self.whole = False

    def run(self) -> None:
        body = json.dumps({"prompt": "hello", "n_predict": self.tokens, "stream": True})
        self.link.request("POST", "/completion", body)
        for line in self.link.getresponse():
            if line.startswith(b"data: "):
                event = json.loads(line[6:])
                self.begun.set()
                self.seen += bool(event["content"])
                self.whole = self.whole or event["stop"]


def test_marking_a_member_down_drains_it_and_cuts_no_stream(demo: Demo) -> None:
    streams = [Stream(demo.addresses["node1"], 60) for _ in range(6)]
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.begun.wait(120)
    site = f"{demo.directory}/node1/etc/nginx/sites-available/llama"
    demo.out("node1", f"sed -i 's/:37081; /:37081 down; /' {site}")
    assert demo.ssh("node1", "nginx -t").stderr.endswith("test is successful\n")
    workers = "cat $HOST_PROC/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c 'worker process$'"
    shutting = "cat $HOST_PROC/[0-9]*/cmdline | tr '\\0' '\\n' | grep -c 'shutting down'; true"
    demo.out("node1", "systemctl reload nginx")
    assert demo.out("node1", workers) == "2\n"
    assert demo.out("node1", shutting) != "0\n"
    for stream in streams:
        stream.join(120)
    assert [stream.seen for stream in streams] == [60] * 6
    assert all(stream.whole for stream in streams)
    until(lambda: not any(s["is_processing"] for s in json.loads(get(demo, "/slots")[1])))
    until(lambda: cards(demo, "node1")[0] < 10)
    demo.out("node1", f"sed -i 's/:37081 down; /:37081; /' {site} && systemctl reload nginx")
    until(lambda: any(s["is_processing"] for s in json.loads(get(demo, "/slots")[1])))


def test_a_broken_configuration_is_refused_in_nginx_s_words(demo: Demo) -> None:
    site = f"{demo.directory}/node1/etc/nginx/sites-available/llama"
    demo.out("node1", f"cp {site} {site}.kept && sed -i 's/least_conn/round-robin/' {site}")
    try:
        tested = demo.ssh("node1", "sudo -n nginx -t")
        assert tested.returncode == 1
        assert 'nginx: [emerg] unknown directive "round-robin" in ' in tested.stderr
        assert demo.ssh("node1", "systemctl reload nginx").returncode == 1
        assert show(demo, "nginx", "ActiveState") == {"ActiveState": "active"}
        demo.out("node1", f"sed -i -e s/round-robin/least_conn/ -e '/ server /d' {site}")
        assert "no servers are inside upstream in" in demo.ssh("node1", "nginx -t").stderr
    finally:
        demo.out("node1", f"mv {site}.kept {site}")
    assert demo.ssh("node1", "nginx -t").returncode == 0


def test_a_stopped_tunnel_takes_the_other_node_s_member_away(demo: Demo) -> None:
    assert get(demo, "/health", 37083) == (200, b'{"status":"ok"}')
    demo.out("node1", "systemctl stop autossh-node2")
    with pytest.raises(ConnectionRefusedError):
        get(demo, "/health", 37083)
    assert get(demo, "/health", 37081, node="node2")[0] == 200
    demo.out("node1", "systemctl start autossh-node2")
    assert get(demo, "/health", 37083)[0] == 200


def test_live_requests_show_in_metrics(demo: Demo) -> None:
    def total() -> float:
        text = get(demo, "/metrics")[1].decode()
        return float(
            next(
                x for x in text.splitlines() if x.startswith("llamacpp:tokens_predicted_total")
            ).split()[1]
        )

    first, at = total(), time.monotonic()
    until(lambda: total() > first)
    assert total() - first < 200 * (time.monotonic() - at) + 1000

"""Hosts on the command line, and API keys from the environment."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop import config
from llamatop.errors import ConfigError, Problem
from llamatop.model.declared import Cluster, Node, Worker


def test_names_come_from_the_host_part_and_are_distinct() -> None:
    hosts = [
        "local",
        "node1",
        "ops@10.0.0.12:2222",
        "ssh://me@node1:22",
        "[fe80::1]:2",
        "u@[::1]",
        "fe80::2",
        "http://edge:8080",
        "node1",
    ]
    cluster = config.from_hosts(hosts)
    assert [node.name for node in cluster.nodes] == [
        "local",
        "node1",
        "10.0.0.12",
        "node1-2",
        "fe80::1",
        "::1",
        "fe80::2",
        "edge:8080",
        "node1-3",
    ]
    assert [node.ssh or node.url for node in cluster.nodes] == hosts
    assert cluster.nodes[7].ssh is None
    assert cluster.path is None


@pytest.mark.parametrize(
    "host", ["", " ", "-oProxyCommand=x", "a b", "a:0", "a:b", "h:", "a\n", "u@", "ftp://x", "a/b"]
)
def test_what_is_no_host_is_said(host: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.from_hosts(["fine", host])
    assert len(caught.value.problems) == 1
    assert str(caught.value).startswith("command line: HOST: ")
    assert caught.value.exit_code == 2


def test_no_host_is_a_problem() -> None:
    with pytest.raises(ConfigError):
        config.from_hosts([])


@given(hosts=st.lists(st.text(max_size=12) | st.sampled_from(["a", "b@a", "[::1]:1"])))
def test_any_hosts(hosts: list[str]) -> None:
    problems: tuple[Problem, ...] = ()
    names: list[str] = []
    try:
        names = [node.name for node in config.from_hosts(hosts).nodes]
    except ConfigError as error:
        problems = error.problems
    assert bool(names) != bool(problems)
    assert all(str(problem).isprintable() for problem in problems)
    assert len(set(names)) == len(names) == (0 if problems else len(hosts))
    assert all(name.isprintable() and "/" not in name for name in names)


def test_secrets_and_the_warnings_for_missing_ones() -> None:
    workers = (
        Worker("a.service", api_key_env="KEY_A"),
        Worker("b.service", api_key_env="KEY_B"),
        Worker("c.service"),
        Worker("d.service", api_key_env="KEY_D"),
    )
    cluster = Cluster("c", (Node("n", ssh="n", workers=workers),))
    environ = {"KEY_A": "s3cret", "KEY_D": "s3cret\nX-Injected: 1"}
    assert config.secrets(cluster, environ) == {("n", "a.service"): "s3cret"}
    missing = config.missing_secrets(cluster, environ)
    assert list(missing) == [("n", "b.service"), ("n", "d.service")]
    assert "KEY_B is not set" in missing["n", "b.service"].text
    assert "s3cret" not in str(missing)

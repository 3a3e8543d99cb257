"""The cluster file: what it means, and everything that can be wrong with it, by line."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomlkit
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llamatop import config
from llamatop.config.positions import positions
from llamatop.errors import ConfigError, Problem
from llamatop.model.declared import Balancer, Cluster, Node, Silence, Worker

WHOLE = """\
name = "p40-2x2"
interval = 2
ssh_config = "ssh_config"        # optional, relative to this file; default: the user's
known_hosts = "~/known_hosts"

[[node]]
name = "node1"
ssh = "node1"                    # as you would type it after ssh; "local" for this machine
units = ["llama-server-gpu*"]    # default: every unit whose ExecStart runs a known engine

[[node]]
name = "node2"
ssh = "ops@10.0.0.12:2222"

[[node.worker]]                  # only where discovery needs help
unit = "llama-server-gpu0"
url = "http://127.0.0.1:37083"   # as seen from the node
member = "127.0.0.1:37083"       # its server line on the balancer
api_key_env = "LLAMA_API_KEY"    # a variable where llamatop runs; never the key itself

[[node]]
name = "edge"                    # no ssh: read by HTTP alone
url = "http://10.0.0.20:8080"

[balancer]
node = "node1"
kind = "nginx"
upstream = "llama_cluster"
test = ["docker", "exec", "edge", "nginx", "-t"]       # in place of nginx -t
reload = ["sudo", "-n", "/opt/bin/reload edge"]  # in place of systemctl reload
"""


def load(tmp_path: Path, text: str | bytes) -> Cluster:
    file = tmp_path / "cluster.toml"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return config.load(file)


def problems(tmp_path: Path, text: str | bytes) -> list[tuple[int | None, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(caught.value).count("\n") == len(caught.value.problems) - 1
    assert all(problem.file.endswith("cluster.toml") for problem in caught.value.problems)
    return [(problem.line, problem.key, problem.text) for problem in caught.value.problems]


def one(tmp_path: Path, text: str | bytes) -> tuple[int | None, str, str]:
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    return found[0]


def test_the_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "ssh_config").touch()
    worker = Worker(
        "llama-server-gpu0.service", "http://127.0.0.1:37083", "127.0.0.1:37083", "LLAMA_API_KEY"
    )
    assert load(tmp_path, WHOLE) == Cluster(
        name="p40-2x2",
        nodes=(
            Node("node1", ssh="node1", units=("llama-server-gpu*",)),
            Node("node2", ssh="ops@10.0.0.12:2222", workers=(worker,)),
            Node("edge", url="http://10.0.0.20:8080"),
        ),
        balancer=Balancer(
            node="node1",
            upstream="llama_cluster",
            test=("docker", "exec", "edge", "nginx", "-t"),
            reload=("sudo", "-n", "/opt/bin/reload edge"),
        ),
        interval_seconds=2.0,
        ssh_config=tmp_path / "ssh_config",
        known_hosts=Path("/home/me/known_hosts"),
        path=tmp_path / "cluster.toml",
    )


def test_the_smallest_file(tmp_path: Path) -> None:
    cluster = load(tmp_path, '\ufeff[[node]]\r\nname = "a b"\r\nssh = "local"\r\n')
    assert cluster.name == "cluster"
    assert cluster.nodes == (Node("a b", ssh="local"),)
    assert (cluster.interval_seconds, cluster.balancer) == (1.0, None)


RANGES = {
    "n[1-3]": ["n1", "n2", "n3"],
    "n[08-10]": ["n08", "n09", "n10"],
    "n[1-2,7]x": ["n1x", "n2x", "n7x"],
    "r[1-2]n[01-02]": ["r1n01", "r1n02", "r2n01", "r2n02"],
    "[9-10]": ["9", "10"],
    "[7]": ["7"],
    "plain": ["plain"],
}


@pytest.mark.parametrize("name", RANGES)
def test_a_range_is_as_many_nodes_in_its_order(tmp_path: Path, name: str) -> None:
    node = f'[[node]]\nname = "{name}"\nssh = "ops@{name}.example:2222"\nunits = ["[ab]-[1-2]*"]\n'
    cluster = load(tmp_path, f'{node}[balancer]\nnode = "{RANGES[name][-1]}"\nupstream = "u"\n')
    assert cluster.nodes == tuple(
        Node(called, ssh=f"ops@{called}.example:2222", units=("[ab]-[1-2]*",))
        for called in RANGES[name]
    )


def test_a_range_of_nodes_has_its_workers_in_step(tmp_path: Path) -> None:
    text = """\
[[node]]
name = "n[1-2]"
ssh = "10.0.0.[11-12]"
[[node.worker]]
unit = "llama-server-a"
url = "http://127.0.0.1:8080"
member = "127.0.0.1:[37081-37082]"
api_key_env = "KEY"
[[node]]
name = "e[1-2]"
url = "http://10.0.0.9:[8080-8081]"
"""
    unit, url = "llama-server-a.service", "http://127.0.0.1:8080"
    assert load(tmp_path, text).nodes == (
        Node("n1", "10.0.0.11", workers=(Worker(unit, url, "127.0.0.1:37081", "KEY"),)),
        Node("n2", "10.0.0.12", workers=(Worker(unit, url, "127.0.0.1:37082", "KEY"),)),
        Node("e1", url="http://10.0.0.9:8080"),
        Node("e2", url="http://10.0.0.9:8081"),
    )


@pytest.mark.parametrize(
    ("name", "ssh", "key", "text"),
    [
        ("n[1-4]", "h", "ssh", "stands for 1 and the node's name for 4, n1 to n4: write ranges"),
        ("n[1-4]", "h[1-3]", "ssh", "stands for 3 and the node's name for 4, n1 to n4"),
        ("n", "h[1-3]", "ssh", "stands for 3 and the node's name for one"),
        ("n[4-1]", "h[1-3]", "name", "holds [4-1], which counts down"),
        ("n[1-]", "h", "name", "holds [1-], which is no range"),
        ("n[1,,2]", "h", "name", "holds [1,,2], which is no range"),
        ("n[01:64]", "h", "name", "holds [01:64]: write the range as [01-64]"),
        ("n[a-d]", "h", "name", "holds '[', which has a meaning in worker names"),
        ("n[1-4", "h", "name", "; a range of numbers is [01-64]"),
        ("n[1-99999]", "h", "name", "holds [1-99999], which is more than 1,024"),
        ("n[1-100]x[1-100]", "h", "name", "stands for 10,000, more than 1,024"),
        ("n[1-2,2]", "h[1-3]", "name", "'n2' is the name of another node as well"),
        ("n/[1-2]", "h[1-2]", "name", "holds '/'"),
        ("n[1-2]", "a b[1-2]", "ssh", "holds a space"),
    ],
)
def test_what_is_wrong_with_a_range_is_said(
    tmp_path: Path, name: str, ssh: str, key: str, text: str
) -> None:
    node = f'[[node]]\nname = "{name}"\nssh = "{ssh}"\n'
    # While a node's name is wrong nobody can say that another is none.
    balancer = '[balancer]\nnode = "nowhere"\nupstream = "u"\n' if key == "name" else ""
    line, place, said = one(tmp_path, node + balancer)
    assert (line, place) == (2 if key == "name" else 3, f"node[1].{key}")
    assert text in said


def test_a_range_of_nodes_shares_no_member(tmp_path: Path) -> None:
    node = '[[node]]\nname = "n[1-3]"\nssh = "n[1-3]"\n[[node.worker]]\nunit = "a"\n'
    line, key, text = one(tmp_path, f'{node}member = "127.0.0.1:1"\n')
    assert (line, key) == (6, "node[1].worker[1].member")
    assert "stands for 1 and the node's name for 3" in text


def test_the_sample_in_the_documentation_of_a_relative_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "c.toml").write_text(
        'known_hosts = "kh"\n[[node]]\nname = "a"\nssh = "a"\n'
    )
    monkeypatch.chdir(tmp_path)
    assert config.load(Path("deep/c.toml")).known_hosts == tmp_path / "deep" / "kh"


def test_all_problems_at_once_in_file_order(tmp_path: Path) -> None:
    text = """\
nam = "x"
interval = 0
ssh_config = "nope"
[[node]]
name = "node1"
ssh = "h:99999"
units = "llama*"

[[node]]
name = "node1"
ssh = "-oProxyCommand=x"

[[node.worker]]
unit = 3
api_key = "sk-secret"
api_key_env = "sk-secret"
member = "http://x"
url = "127.0.0.1:8080"

[[node]]
name = "node2"

[balancer]
node = "node11"
kind = "haproxy"
"""
    found = problems(tmp_path, text)
    assert [(line, key) for line, key, _ in found] == [
        (1, "nam"),
        (2, "interval"),
        (3, "ssh_config"),
        (6, "node[1].ssh"),
        (7, "node[1].units"),
        (10, "node[2].name"),
        (11, "node[2].ssh"),
        (14, "node[2].worker[1].unit"),
        (15, "node[2].worker[1].api_key"),
        (16, "node[2].worker[1].api_key_env"),
        (17, "node[2].worker[1].member"),
        (18, "node[2].worker[1].url"),
        (20, "node[3]"),
        (23, "balancer"),
        (25, "balancer.kind"),
    ]
    assert "sk-secret" not in str(found)
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    nearest = {problem.key: problem.nearest for problem in caught.value.problems}
    assert nearest["nam"] == "name"
    assert nearest["node[2].worker[1].api_key"] == "api_key_env"
    assert "did you mean 'name'?" in str(caught.value)


NODE = '[[node]]\nname = "a"\nssh = "a"\n'
BALANCER = NODE + "[balancer]\nnode = 'a'\nupstream = 'u'\n"


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("", None, "node", "there is none"),
        ("node = []", 1, "node", "there is none"),
        ("[node]\nname = 'a'", 1, "node", "[[node]]"),
        ("node = [1]", 1, "node[1]", "must be a table [[node]], not a number"),
        ("[[node]]\nssh = 'a'", 1, "node[1]", "name is missing"),
        ("[[node]]\nname = 'a'\nshh = 'a'\nurl = 'http://a'", 3, "node[1].shh", "unknown key"),
        ("[[node]]\nname = 'a'\nssh = 'a'\nurl = 'http://a'", 4, "node[1].url", "without ssh"),
        ("[[node]]\nname = 'a'\nurl = 'http://a'\nunits = ['x']", 4, "node[1].units", "ssh"),
        ("[[node]]\nname = 'a/b'\nssh = 'a'", 2, "node[1].name", "'/'"),
        ("[[node]]\nname = 'a*'\nssh = 'a'", 2, "node[1].name", "'*'"),
        ("[[node]]\nname = '-a'\nssh = 'a'", 2, "node[1].name", "begins with '-'"),
        ("[[node]]\nname = ''\nssh = 'a'", 2, "node[1].name", "is empty"),
        ('[[node]]\nname = "a\\u001b[31m"\nssh = "a"', 2, "node[1].name", "control characters"),
        ('[[node]]\nname = "a\\u202eb"\nssh = "a"', 2, "node[1].name", "control characters"),
        ("[[node]]\nname = 'a'\nssh = 'a -p 2'", 3, "node[1].ssh", "a space"),
        ("[[node]]\nname = 'a'\nssh = 'http://a'", 3, "node[1].ssh", "as url"),
        ("[[node]]\nname = 'a'\nssh = 'a;b'", 3, "node[1].ssh", "no ssh host"),
        ("[[node]]\nname = 'a'\nssh = 'u@'", 3, "node[1].ssh", "no ssh host"),
        ("[[node]]\nname = 'a'\nurl = 'ftp://a'", 3, "node[1].url", "no address"),
        ("[[node]]\nname = 'a'\nurl = 'http://u:p@a'", 3, "node[1].url", "user or password"),
        ("[[node]]\nname = 'a'\nurl = 'http://a:0'", 3, "node[1].url", "no port"),
        ("[[node]]\nname = 'a'\nurl = 'http://[::1'", 3, "node[1].url", "no address"),
        (NODE + "units = [\n 'x',\n 3]", 6, "node[1].units[2]", "not a number"),
        ("interval = nan\n" + NODE, 1, "interval", "0.1 to 3600"),
        ("interval = true\n" + NODE, 1, "interval", "not true or false"),
        ("interval = 1e9\n" + NODE, 1, "interval", "0.1 to 3600"),
        ("name = 2020-01-01\n" + NODE, 1, "name", "not a date or time"),
        (
            NODE + "worker = [{unit = 'u'}, {unit = 'u.service'}]",
            4,
            "node[1].worker[2].unit",
            "described twice",
        ),
        (NODE + "[[node.worker]]\nurl = 'http://a'", 4, "node[1].worker[1]", "unit is missing"),
        (NODE + "[[node.worker]]\nunit = 'a/b'", 5, "node[1].worker[1].unit", "no unit name"),
        (
            NODE + "[[node.worker]]\nunit = 'a'\napi_key_env = 'a4d2f90c8b7e6a5d4c3b2a19'",
            6,
            "node[1].worker[1].api_key_env",
            "looks like the key itself",
        ),
        (
            NODE + "[[node.worker]]\nunit = 'a'\nmember = 'a:1;'",
            6,
            "node[1].worker[1].member",
            "no server address",
        ),
        (NODE + "[balancer]\nnode = 'b'\nupstream = 'u'", 5, "balancer.node", "no node is called"),
        (NODE + "[balancer]\nnode = 'a'\nupstream = 'u;'", 6, "balancer.upstream", "no upstream"),
        (BALANCER + "test = []", 7, "balancer.test", "is empty"),
        (BALANCER + "reload = 'nginx -s reload'", 7, "balancer.reload", "must be a list"),
        (BALANCER + "test = ['nginx', 1]", 7, "balancer.test[2]", "must be text"),
        (NODE + "[balancer]\nnode = 'a'", 4, "balancer", "upstream is missing"),
        ("balancer = 3\n" + NODE, 1, "balancer", "one table [balancer]"),
        (
            "[[node]]\nname = 'a'\nurl = 'http://a'\n[balancer]\nnode = 'a'\nupstream = 'u'",
            5,
            "balancer.node",
            "has no ssh",
        ),
        ("a = 1\n[[node\n", 2, "", "is not TOML: "),
        ("a = 1\na = 2\n", 2, "", "is not TOML: "),
        ('name = "x', 1, "", "is not TOML: "),
        ("a = " + "[" * 10_000, None, "", "nested too deeply"),
        (b"a = 1\nb = '\xff'", 2, "", "is not UTF-8"),
        (b"a = 1\n\0", 2, "", "NUL byte"),
        (b"#" * (2**20 + 1), None, "", "larger than 1 MiB"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_each_problem(
    tmp_path: Path, text: str | bytes, line: int | None, key: str, says: str
) -> None:
    found = one(tmp_path, text)
    assert found[:2] == (line, key)
    assert says in found[2]


def test_two_workers_cannot_be_one_member(tmp_path: Path) -> None:
    worker = "[[node.worker]]\nunit = '{}'\nmember = '127.0.0.1:1'\n"
    text = NODE + worker.format("x") + NODE.replace('"a"', '"b"') + worker.format("y")
    assert one(tmp_path, text) == (12, "node[2].worker[1].member", "is that of a/x.service as well")


def test_a_wrong_name_is_not_blamed_on_the_balancer(tmp_path: Path) -> None:
    text = "[[node]]\nname = 'a/b'\nssh = 'x'\n[balancer]\nnode = 'a'\nupstream = 'u'\n"
    assert one(tmp_path, text)[:2] == (2, "node[1].name")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path, "is a directory"),
        (tmp_path / "none.toml", "does not exist"),
        (tmp_path / "none" / "x.toml", "does not exist"),
        (Path("/dev/zero"), "larger than 1 MiB"),
        (tmp_path / ("x" * 300), "cannot be read (File name too long)"),
        (Path("a\0b"), "cannot be read (embedded null byte)"),
    ):
        with pytest.raises(ConfigError) as caught:
            config.load(path)
        assert says in str(caught.value)
        assert str(caught.value).isprintable()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    file = tmp_path / "cluster.toml"
    file.touch(mode=0)
    with pytest.raises(ConfigError, match="may not be read"):
        config.load(file)


def test_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, own = tmp_path / "here", tmp_path / "own"
    here.mkdir()
    (own / "llamatop").mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own))
    assert config.find() is None
    (own / "llamatop" / "cluster.toml").touch()
    assert config.find() == own / "llamatop" / "cluster.toml"
    (here / "cluster.toml").touch()
    assert config.find() == Path("cluster.toml")


# -- any text, any TOML


def cluster_or_error(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    problems: tuple[Problem, ...] = ()
    try:
        assert config.load(path).nodes
    except ConfigError as error:
        problems = error.problems or pytest.fail("an error without a problem")
    for problem in problems:
        assert problem.line is None or 1 <= problem.line <= data.count(b"\n") + 1
        assert str(problem).isprintable(), "nothing here may move a cursor"


@given(data=st.binary(max_size=200))
@example(data=b'"\x1b[31m" = 1')
@example(data=b"x = 1" + b"0" * 5000)
def test_any_bytes(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    cluster_or_error(tmp_path_factory.getbasetemp() / "any.toml", data)


names = st.sampled_from(
    [
        "name",
        "ssh",
        "url",
        "units",
        "worker",
        "unit",
        "member",
        "api_key_env",
        "node",
        "balancer",
        "kind",
        "upstream",
        "interval",
        "ssh_config",
        "known_hosts",
        "nodes",
    ]
) | st.text(max_size=5)
texts = (
    st.sampled_from(
        [
            "a",
            "node1",
            "local",
            "http://h:1",
            "127.0.0.1:1",
            "nginx",
            "[::1]:2",
            "ssh://u@h",
            "~x",
            "\x1b[0m",
            "a:b:c",
            "@",
            "[",
            "h:",
        ]
    )
    | st.text()
)
scalars = texts | st.integers(-(2**63), 2**63 - 1) | st.booleans() | st.floats() | st.dates()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
nodes = st.fixed_dictionaries(
    {"name": texts}, optional={"ssh": texts, "url": texts, "units": values, "worker": values}
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "name": values,
        "interval": values,
        "ssh_config": texts,
        "known_hosts": texts,
        "node": st.lists(nodes, max_size=3) | values,
        "balancer": values,
    },
) | st.dictionaries(names, values, max_size=5)


def as_toml(document: dict[str, Any]) -> str | None:
    """The document as TOML; None where it holds what TOML cannot."""
    try:
        text = tomlkit.dumps(document)
        tomllib.loads(text)
    except (ValueError, tomlkit.exceptions.TOMLKitError, UnicodeError):
        return None
    return text if text.isascii() or text.encode("utf-8", "replace").decode() == text else None


@settings(max_examples=60, deadline=None)
@given(document=documents)
def test_any_toml(document: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    text = as_toml(document)
    if text is not None:
        cluster_or_error(tmp_path_factory.getbasetemp() / "any.toml", text.encode())


def paths(value: Any, here: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    found = {here} if here else set()
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        if isinstance(inner, dict | list):
            found |= paths(inner, (*here, key))
        else:
            found.add((*here, key))
    return found


@settings(max_examples=60, deadline=None)
@given(document=documents)
def test_every_key_of_any_toml_has_a_line(document: dict[str, Any]) -> None:
    text = as_toml(document)
    if text is None:
        return
    lines = positions(text)
    missing = paths(tomllib.loads(text)) - set(lines)
    assert not missing
    for place, line in lines.items():
        key = next((part for part in reversed(place) if isinstance(part, str)), "")
        if key.isascii() and key.isalnum() and isinstance(place[-1], str):
            assert key in text.split("\n")[line - 1] or "\n" not in text


def test_lines_in_every_kind_of_toml() -> None:
    text = '''\
# comment [x]
a."b c".d = 1  # d = 2
s = """
x = 1
\\"""
""""
l = \'\'\'
[t]
\'\'\'
arr = [ # [
  "]", # "
  { k = "}" , j = [1,
   2] },
]

[ x . "y" ]
z = 1979-05-27T07:32:00Z
[[p]]
[[p.q]]
r = 1
[[p.q]]
r = 2
[[p]]
[p.t]
u = {}
'''
    tomllib.loads(text)
    lines = positions(text)
    expected = {
        ("a", "b c", "d"): 2,
        ("s",): 3,
        ("l",): 7,
        ("arr",): 10,
        ("arr", 0): 11,
        ("arr", 1): 12,
        ("arr", 1, "k"): 12,
        ("arr", 1, "j", 1): 13,
        ("x", "y"): 16,
        ("x", "y", "z"): 17,
        ("p",): 18,
        ("p", 0, "q", 0, "r"): 20,
        ("p", 0, "q", 1): 21,
        ("p", 0, "q", 1, "r"): 22,
        ("p", 1, "t"): 24,
        ("p", 1, "t", "u"): 25,
    }
    assert {place: lines.get(place) for place in expected} == expected


def test_findings_are_silenced_by_id_and_place(tmp_path: Path) -> None:
    text = (
        '[[silence]]\nrule = "unit-not-enabled"\nplace = "node1*"\nreason = "started by hand"\n'
        '[[silence]]\nrule = "host-key"\n'
    )
    assert load(tmp_path, "[[node]]\nname = 'n'\nssh = 'h'\n" + text).silences == (
        Silence("unit-not-enabled", "node1*", "started by hand"),
        Silence("host-key", "*"),
    )


def test_a_finding_that_does_not_exist_cannot_be_silenced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(
            tmp_path,
            "[[node]]\nname = 'n'\nssh = 'h'\n" + '[[silence]]\nrule = "unit-not-enabeld"\n',
        )
    (problem,) = caught.value.problems
    assert (problem.line, problem.key) == (5, "silence[1].rule")
    assert problem.nearest == "unit-not-enabled"


def test_alerts_go_to_a_command_and_a_webhook(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    node = '[[node]]\nname = "n"\nssh = "h"\n'
    path.write_text(node)
    assert config.load(path).alerts is None
    path.write_text(
        node + '[alerts]\ncommand = ["page", "me"]\nwebhook = "https://h.example/x?token=1"\n'
    )
    alerts = config.load(path).alerts
    assert alerts is not None
    assert (alerts.command, alerts.webhook) == (("page", "me"), "https://h.example/x?token=1")
    path.write_text(node + "[alerts]\n")
    assert config.load(path).alerts is not None


def test_a_wrong_webhook_is_not_repeated(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(
        '[[node]]\nname = "n"\nssh = "h"\n[alerts]\ncommand = []\nwebhook = "hook/s3cret"\n'
    )
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    told = str(caught.value)
    assert "is no address: write https://host/path" in told
    assert "is empty: write the command as a list" in told
    assert "s3cret" not in told

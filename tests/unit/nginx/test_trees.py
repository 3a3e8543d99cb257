"""Whole configurations as people write them: real nginx, crossplane and we see the same members."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random

import crossplane
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamatop import nginx
from llamatop.model.observed import UpstreamMember
from llamatop.probe.includes import Files

TREES = Path(__file__).parents[2] / "cases" / "nginx" / "trees"
# Members turned; the long run: LLAMATOP_TEST_EXAMPLES=100000
EXAMPLES = int(os.environ.get("LLAMATOP_TEST_EXAMPLES", "2000"))

Key = tuple[str, str, str]


def names() -> list[str]:
    return sorted(path.name for path in TREES.iterdir())


@pytest.fixture(params=names())
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of one configuration, links kept; its main file is nginx.conf."""
    copy = tmp_path / "nginx"
    shutil.copytree(TREES / request.param, copy, symlinks=True)
    return copy


def read(tree: Path) -> tuple[UpstreamMember, ...]:
    """The members as the node sends the files."""
    main = str(tree / "nginx.conf")
    found = Files().read(main, str(tree))
    return nginx.members({path: f["text"].encode("latin-1") for path, f in found.items()}, main)


def by_crossplane(tree: Path) -> list[tuple[str, list[str]]]:
    """Each server line's upstream and words, includes followed."""
    payload = crossplane.parse(str(tree / "nginx.conf"), combine=True, check_args=False)
    assert payload["status"] == "ok", payload["errors"]
    return [
        (block["args"][0], line["args"])
        for block in _blocks(payload["config"][0]["parsed"])
        if block["directive"] == "upstream"
        for line in block["block"]
        if line["directive"] == "server"
    ]


def _blocks(parsed: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    for one in parsed:
        yield one
        if isinstance(one.get("block"), list) and one["directive"] != "upstream":
            yield from _blocks(one["block"])  # type: ignore[arg-type]


def dumped(binary: str, tree: Path) -> tuple[UpstreamMember, ...]:
    """The members in what the real `nginx -T` prints; the test fails where it refuses the tree."""
    done = subprocess.run(
        [binary, "-T", "-p", str(tree), "-c", str(tree / "nginx.conf")],
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    files, main = nginx.dump(done.stdout)
    return nginx.members(files, main)


def keys(members: tuple[UpstreamMember, ...]) -> list[tuple[Key, bool]]:
    return [((m.upstream, m.address, os.path.realpath(m.file or "")), m.down) for m in members]


def test_all_three_see_the_same_members(tree: Path, nginx_binary: str) -> None:
    ours = read(tree)
    assert ours
    seen = [(m.upstream, m.address, m.down) for m in ours]
    assert seen == [(name, w[0], "down" in w[1:]) for name, w in by_crossplane(tree)]
    assert keys(dumped(nginx_binary, tree)) == keys(ours)
    for member in ours:
        lines = Path(member.file or "").read_bytes().split(b"\n")
        # A directive that spans lines begins on its first.
        assert b"server" in lines[(member.line or 0) - 1]


def test_each_member_down_and_up_again_gives_the_same_bytes(tree: Path, nginx_binary: str) -> None:
    before = read(tree)
    for member in before:
        assert member.file is not None
        file = Path(member.file).resolve()
        data = file.read_bytes()
        edited = nginx.edit(data, member.upstream, member.address, not member.down, member.file)
        file.write_bytes(edited)
        # A line that two upstreams include is a member of both.
        line = (member.file, member.line, member.address)
        expected = [
            (key, not member.down if (m.file, m.line, m.address) == line else down)
            for m, (key, down) in zip(before, keys(before), strict=True)
        ]
        assert keys(read(tree)) == expected
        assert keys(dumped(nginx_binary, tree)) == expected
        assert _without_down(edited) == _without_down(data)
        assert undone(edited, data, member) == data
        if not member.down:
            assert nginx.edit(edited, member.upstream, member.address, False) == data
        file.write_bytes(data)


def undone(edited: bytes, data: bytes, member: UpstreamMember) -> bytes:
    """The edit taken back by what is known of the lines: how they stood, and how they stand."""
    stood, stands = (nginx.written(d, member.upstream, member.address) for d in (data, edited))
    texts = dict(zip(stands, stood, strict=True))
    return nginx.rewrite(edited, member.upstream, member.address, texts)


def _without_down(data: bytes) -> bytes:
    """What has to stay: everything but the word and the blanks beside it."""
    return b"".join(re.sub(rb"(['\"]?)\bdown\b\1", b"", data).split())


def test_the_link_leads_to_the_file_that_is_edited(tmp_path: Path) -> None:
    tree = tmp_path / "nginx"
    shutil.copytree(TREES / "debian", tree, symlinks=True)
    (file,) = {m.file for m in read(tree)}
    assert file == str(tree / "sites-enabled" / "llama")
    found = Files().read(str(tree / "nginx.conf"), str(tree))
    assert found[file]["target"] == str(tree / "sites-available" / "llama")


@pytest.mark.parametrize(
    ("upstream", "address", "says"),
    [
        ("chat", "127.0.0.1:1", "up.conf:1: no server 127.0.0.1:1 in upstream chat"),
        ("chat_long", "127.0.0.1:1", "up.conf:4: no server 127.0.0.1:1 in upstream chat_long"),
        ("absent", "127.0.0.1:37081", "up.conf: no upstream absent"),
    ],
)
def test_what_is_missing_is_named_with_file_and_line(
    upstream: str, address: str, says: str
) -> None:
    data = (TREES / "shared" / "upstreams.conf").read_bytes()
    with pytest.raises(KeyError) as caught:
        nginx.edit(data, upstream, address, down=True, file="up.conf")
    assert caught.value.args[0] == says


@pytest.mark.parametrize(
    "text",
    [
        "server a:1 weight=9 down",
        "server a:2 down",
        "server a:1 down; evil on",
        "server \u20ac",
        "",
        "{",
    ],
)
def test_a_line_is_never_put_as_another_one(text: str) -> None:
    data = b"upstream u { server a:1; }"
    assert nginx.rewrite(data, "u", "a:1", {"server a:1": text}) == data
    right = nginx.rewrite(data, "u", "a:1", {"server a:1": "server  a:1\tdown"})
    assert right == b"upstream u { server  a:1\tdown; }"


# What people write between words, at line ends, around blocks.
NEWLINES = ["\n", "\r\n", "\n\n", "\n# é } {\n", " # server x;\n"]
BLANKS = [" ", "\t", "  ", "\t\t"]
ADDRESSES = [
    "127.0.0.1:37081", "127.0.0.1:37082", "127.0.0.1:37083", "[::1]:8080", "localhost:81",
    "localhost", "unix:/run/a.sock", "127.0.0.1",
]  # fmt: skip
PARAMETERS = ["weight=2", "max_fails=0", "fail_timeout=5s", "max_conns=9"]


class Writer:
    """Writes configurations as people do; the same seed writes the same."""

    def __init__(self, seed: int) -> None:
        self.chance = Random(seed)

    def server(self, address: str) -> str:
        quote = self.chance.choice(["", "", "", '"', "'"])
        parameters = self.chance.sample(PARAMETERS, self.chance.randint(0, 3))
        words = ["server", f"{quote}{address}{quote}", *parameters]
        if self.chance.random() < 0.5:
            down = self.chance.choice(["down", "'down'"])
            words.insert(self.chance.randint(2, len(words)), down)
        text = words[0]
        for word in words[1:]:
            text += self.chance.choice(self.chance.choice([BLANKS, NEWLINES])) + word
        return text + self.chance.choice([";", ";", " ;", "\n;"])

    def servers(self, most: int) -> list[str]:
        addresses = self.chance.sample(ADDRESSES, self.chance.randint(1, most))
        return [self.server(address) for address in addresses]

    def configuration(self) -> tuple[bytes, bytes, bytes]:
        """The main file, the one it includes, and one with the members of an upstream."""
        choice = self.chance.choice
        pieces = []
        for number in range(self.chance.randint(1, 3)):
            method = choice(["", "least_conn;", "# least_conn;\n", "ip_hash ;"])
            lines = "".join(
                text + choice(choice([BLANKS, NEWLINES, [""]])) for text in self.servers(5)
            )
            pieces.append(
                f"upstream u{number}{choice(BLANKS)}{{{method}{choice(NEWLINES)}{lines}}}"
            )
            pieces.append(choice(NEWLINES))
        end = choice(["", "\n", "\r\n"])
        main = (
            "pid nginx.pid; error_log stderr; events {}\n"
            f"http {{ access_log off; include up/*.conf;{choice(NEWLINES)}"
            "upstream parts { server 127.0.0.1:9; include parts; } }\n"
        )
        inner = "".join(self.servers(3)) + end
        return main.encode(), ("".join(pieces) + end).encode(), inner.encode()


def _put(tree: Path, files: tuple[bytes, bytes, bytes]) -> None:
    (tree / "up").mkdir(exist_ok=True)
    for name, data in zip(("nginx.conf", "up/a.conf", "parts"), files, strict=True):
        (tree / name).write_bytes(data)


# Every configuration has at least so many members.
TURNED = 3


def _turned(tree: Path, chance: Random) -> set[Key]:
    """Turn members one after another; what we and crossplane see, and what taking it back gives."""
    turned: set[Key] = set()
    first = read(tree)
    for place in chance.sample(range(len(first)), TURNED):
        before = read(tree)
        member = before[place]
        assert member.file is not None
        file = Path(member.file)
        data = file.read_bytes()
        edited = nginx.edit(data, member.upstream, member.address, not member.down, member.file)
        file.write_bytes(edited)
        assert keys(read(tree)) == [
            (key, not member.down if m == member else down)
            for m, (key, down) in zip(before, keys(before), strict=True)
        ]
        assert _without_down(edited) == _without_down(data)
        assert undone(edited, data, member) == data
        if not member.down:
            assert nginx.edit(edited, member.upstream, member.address, False) == data
        turned.add(keys((member,))[0][0])
    assert [(name, words) for name, words in by_crossplane(tree)] == [
        (m.upstream, [m.address, *_words(m)]) for m in read(tree)
    ]
    return turned


def _words(member: UpstreamMember) -> list[str]:
    file = Path(member.file or "")
    lines = nginx.lines_of(file.read_bytes(), str(file), member.upstream)
    (line,) = [line for line in lines if line.address == member.address]
    return [word.value for word in line.parameters]


# A seed a configuration, not a draw a word, which takes most of the time.
_seeds = st.integers(0, 2**64 - 1)
_wild = settings(deadline=None, suppress_health_check=list(HealthCheck))


@settings(_wild, max_examples=100)
@given(_seeds)
def test_only_the_meant_members_change(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    tree = tmp_path_factory.getbasetemp() / "generated"
    tree.mkdir(exist_ok=True)
    writer = Writer(seed)
    _put(tree, writer.configuration())
    assert len(_turned(tree, writer.chance)) == TURNED


@pytest.mark.slow
@settings(_wild, max_examples=-(-EXAMPLES // TURNED))
@given(_seeds)
def test_the_real_nginx_sees_only_the_meant_members_change(
    tmp_path_factory: pytest.TempPathFactory, nginx_binary: str, seed: int
) -> None:
    tree = tmp_path_factory.getbasetemp() / "generated-real"
    tree.mkdir(exist_ok=True)
    writer = Writer(seed)
    _put(tree, writer.configuration())
    before = keys(dumped(nginx_binary, tree))
    assert before == keys(read(tree))
    turned = _turned(tree, writer.chance)
    after = keys(dumped(nginx_binary, tree))
    assert after == keys(read(tree))
    assert after == [(key, down != (key in turned)) for key, down in before]

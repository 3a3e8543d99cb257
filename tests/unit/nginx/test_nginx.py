"""nginx's files: what is read, what an edit changes, what is refused."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import crossplane
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamatop import nginx
from llamatop.errors import NginxSyntaxError
from llamatop.model.observed import UpstreamMember

CASES = Path(__file__).parents[2] / "cases" / "nginx"
FILE = "/etc/nginx/sites-enabled/llama"


def written() -> bytes:
    return (CASES / "upstream.conf").read_bytes()


def state(data: bytes, file: str = FILE) -> dict[tuple[str, str], bool]:
    return {(m.upstream, m.address): m.down for m in nginx.members({file: data}, file)}


def test_reads_members_with_parameters_file_and_line() -> None:
    members = nginx.members({FILE: written()}, FILE)
    assert [(m.upstream, m.address, m.down, m.weight, m.backup, m.line) for m in members] == [
        ("llama_cluster", "127.0.0.1:37081", False, None, False, 4),
        ("llama_cluster", "127.0.0.1:37082", False, 2, False, 5),
        ("llama_cluster", "127.0.0.1:37083", True, 1, True, 7),
        ("llama_cluster", "127.0.0.1:37084", True, None, False, 7),
        ("llama_cluster", "localhost:8080", False, None, False, 8),
        ("llama_cluster", "[::1]:37085", False, None, False, 8),
        ("llama_cluster", "unix:/run/llama.sock", False, None, False, 8),
        ("llama_cluster", "127.0.0.1:37086", False, 3, False, 9),
        ("embeddings", "127.0.0.1:37081", False, None, False, 16),
        ("embeddings", "127.0.0.1:37082", True, None, False, 16),
    ]
    assert {m.file for m in members} == {FILE}


def test_reads_what_nginx_dumps_over_globs_and_links() -> None:
    files, main = nginx.dump((CASES / "debian-12-nginx-T.txt").read_bytes())
    assert main == "/etc/nginx/nginx.conf"
    assert files["/etc/nginx/sites-enabled/llama"] == written()
    members = nginx.members(files, main)
    assert len(members) == 10
    assert {m.file for m in members} == {"/etc/nginx/sites-enabled/llama"}


@pytest.mark.parametrize(
    ("address", "before", "after"),
    [
        ("127.0.0.1:37081", b"fail_timeout=5s;", b"fail_timeout=5s down;"),
        ("127.0.0.1:37082", b"weight=2;\t#", b"weight=2 down;\t#"),
        ("localhost:8080", b"max_fails=0;", b"max_fails=0 down;"),
        ("[::1]:37085", b"server [::1]:37085;", b"server [::1]:37085 down;"),
        ("unix:/run/llama.sock", b"llama.sock;", b"llama.sock down;"),
        ("127.0.0.1:37086", b"weight=3\n", b"weight=3 down\n"),
    ],
)
def test_down_goes_behind_the_last_parameter_and_comes_off_again(
    address: str, before: bytes, after: bytes
) -> None:
    data = written()
    edited = nginx.edit(data, "llama_cluster", address, down=True)
    assert edited == data.replace(before, after, 1)
    assert nginx.edit(edited, "llama_cluster", address, down=False) == data


@pytest.mark.parametrize(
    ("line", "after"),
    [
        (b"server a weight=1 down backup;", b"server a weight=1 backup;"),
        (b"server a down;", b"server a;"),
        (b"server a\tdown weight=2;", b"server a weight=2;"),
        (b'server "a" "down" ;', b'server "a" ;'),
        (b"server a # why\r\n  down;", b"server a # why\r\n  ;"),
        (b"server a\r\n\tdown # why\r\n;", b"server a # why\r\n;"),
        (b"server a down down;", b"server a;"),
    ],
)
def test_down_comes_off_wherever_it_stands(line: bytes, after: bytes) -> None:
    around = b"upstream u {\r\n\t%s server b; }\r\n# end"
    assert nginx.edit(around % line, "u", "a", down=False) == around % after


def test_same_address_in_another_upstream_stays() -> None:
    edited = nginx.edit(written(), "embeddings", "127.0.0.1:37081", down=True)
    assert state(edited)["embeddings", "127.0.0.1:37081"] is True
    assert state(edited)["llama_cluster", "127.0.0.1:37081"] is False


def test_an_included_file_of_server_lines_belongs_to_its_upstream() -> None:
    main, part = "/etc/nginx/nginx.conf", "/etc/nginx/members/one.conf"
    files = {main: b"http { upstream u { include members/*.conf; } }", part: b"server a;"}
    (member,) = nginx.members(files, main)
    assert (member.upstream, member.file, member.line) == ("u", part, 1)
    assert nginx.edit(files[part], "u", "a", down=True) == b"server a down;"


def test_a_glob_stops_at_slashes_and_hidden_files() -> None:
    main = "/etc/nginx/nginx.conf"
    files = {
        main: b"http { include sites-enabled/*; include /etc/nginx/absent.conf; }",
        "/etc/nginx/sites-enabled/b": b"upstream b { server b; }",
        "/etc/nginx/sites-enabled/a": b"upstream a { server a; }",
        "/etc/nginx/sites-enabled/.a.llamatop-new": b"upstream a { server a; }",
        "/etc/nginx/sites-enabled/deep/c": b"upstream c { server c; }",
    }
    assert [m.address for m in nginx.members(files, main)] == ["a", "b"]


def test_an_include_of_itself_is_named() -> None:
    with pytest.raises(NginxSyntaxError, match="includes itself"):
        nginx.members({"/n": b"include /n;"}, "/n")


@pytest.mark.parametrize(
    ("data", "line", "text"),
    [
        (b"http {\n upstream u {\n server a;\n}\n", 5, "unexpected end of file"),
        (b"http {\n}\n}\n", 3, 'unexpected "}"'),
        (b"http {\n server a\n}\n", 3, 'unexpected "}"'),
        (b"\n\nserver 'a'b;", 3, 'unexpected "b"'),
        (b"a;\n;", 2, 'unexpected ";"'),
        (b'a;\nb "never ends;\n', 3, "the word of line 2"),
        (b"a;\nworker", 2, "unexpected end of file"),
    ],
)
def test_a_broken_file_is_named_with_its_line(data: bytes, line: int, text: str) -> None:
    with pytest.raises(NginxSyntaxError, match=text) as caught:
        nginx.members({"/n.conf": data}, "/n.conf")
    assert (caught.value.file, caught.value.line) == ("/n.conf", line)


@pytest.mark.parametrize("data", [b"http {\n}\n}\n", b"http {\n server a\n}\n", b"\n\nx 'a'b;"])
def test_nginx_names_the_same_line(data: bytes, tmp_path: Path, nginx_binary: str) -> None:
    path = tmp_path / "nginx.conf"
    path.write_bytes(data)
    tried = subprocess.run(
        [nginx_binary, "-t", "-p", str(tmp_path), "-c", str(path)], capture_output=True, text=True
    )
    with pytest.raises(NginxSyntaxError) as caught:
        nginx.members({str(path): data}, str(path))
    assert f"{caught.value.text} in {path}:{caught.value.line}" in tried.stderr


def test_a_lua_block_is_passed_over() -> None:
    data = (
        b"http { init_by_lua_block { -- } it's\n local s = '}' t = {1, {2}} x = [[ } ]] }\n"
        b" upstream u { server a; } }"
    )
    (member,) = nginx.members({"/n": data}, "/n")
    assert (member.address, member.line) == ("a", 3)


def test_an_unknown_server_is_an_error() -> None:
    with pytest.raises(KeyError, match=r"no server 10\.0\.0\.9:1 in upstream llama_cluster"):
        nginx.edit(written(), "llama_cluster", "10.0.0.9:1", down=True)


def test_diff_is_exact_and_survives_patch(tmp_path: Path) -> None:
    data = written().replace(b"\n", b"\r\n").rstrip()
    edited = nginx.edit(data, "llama_cluster", "127.0.0.1:37086", down=True)
    target = tmp_path / "llama"
    target.write_bytes(data)
    patch = nginx.diff("llama", data, edited).encode()
    subprocess.run(["patch", "--binary", "-s", str(target)], input=patch, check=True, timeout=10)
    assert target.read_bytes() == edited
    assert nginx.diff("llama", data, data) == ""


# Wild but valid files: what people write around and between server lines.
_gap = st.sampled_from([" ", "\t", "  ", "\n\t", "\r\n  ", " # a note; } {\n ", " \n#x\n\n"])
_addresses = st.sampled_from(
    ["127.0.0.1:37081", "127.0.0.1:37082", "[::1]:8080", "unix:/run/a.sock", "gpu-box", "a.b:1"]
)
_parameters = st.lists(
    st.sampled_from(["weight=1", "max_fails=0", "fail_timeout=5s", "backup", "'slow_start=0'"]),
    max_size=3,
    unique=True,
)


@st.composite
def _server(draw: st.DrawFn) -> tuple[str, str, bool]:
    address = draw(_addresses)
    words = ["server", draw(st.sampled_from([address, f'"{address}"', f"'{address}'"]))]
    words += draw(_parameters)
    down = draw(st.booleans())
    if down:
        words.insert(draw(st.integers(2, len(words))), draw(st.sampled_from(["down", '"down"'])))
    text = words[0] + "".join(draw(_gap) + word for word in words[1:])
    return text + draw(st.sampled_from([";", " ;", "\n;", " # last } \n;"])), address, down


@st.composite
def _files(draw: st.DrawFn) -> bytes:
    pieces = []
    for number in range(draw(st.integers(1, 3))):
        servers = draw(st.lists(_server(), min_size=1, max_size=5, unique_by=lambda s: s[1]))
        name = draw(st.sampled_from([f"u{number}", f'"u{number}"']))
        lines = draw(_gap).join(text for text, _, _ in servers)
        method = draw(st.sampled_from(["", "least_conn;", "# least_conn;\n", "keepalive\t4 ;"]))
        pieces.append(f"upstream {name}{draw(_gap)}{{{method}{draw(_gap)}{lines}{draw(_gap)}}}")
        pieces.append(draw(st.sampled_from(["", "# é } \n", 'log_format x "${a}{\\";";', "a b;"])))
    return draw(_gap).join(pieces).encode() + draw(st.sampled_from([b"", b"\n", b"\r\n"]))


def _as_crossplane_sees(path: Path, data: bytes) -> list[tuple[str, list[str]]]:
    path.write_bytes(data)
    payload = crossplane.parse(str(path), single=True, check_ctx=False, check_args=False)
    assert payload["status"] == "ok", json.dumps(payload["errors"])
    return [
        (block["args"][0], line["args"])
        for block in payload["config"][0]["parsed"]
        if block["directive"] == "upstream"
        for line in block["block"]
        if line["directive"] == "server"
    ]


@settings(deadline=None, max_examples=300)
@given(_files(), st.data())
def test_only_the_meant_member_changes_and_undo_gives_the_same_bytes(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, choice: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "generated.conf"
    before = state(data)
    (upstream, address), down = choice.draw(st.sampled_from(sorted(before.items())))
    edited = nginx.edit(data, upstream, address, down=not down)
    assert state(edited) == {**before, (upstream, address): not down}
    if not down:
        assert nginx.edit(edited, upstream, address, down=False) == data
    assert nginx.edit(edited, upstream, address, down=not down) == edited
    seen = _as_crossplane_sees(path, data)
    expected = [
        (
            name,
            [word for word in args if word != "down"] + ([] if down else ["down"])
            if (name, args[0]) == (upstream, address)
            else args,
        )
        for name, args in seen
    ]
    assert _as_crossplane_sees(path, edited) == expected


@settings(deadline=None)
@given(st.text(alphabet="ab;{}\"'\\ \n#$server down", max_size=60))
def test_any_text_is_read_or_refused_with_a_line(text: str) -> None:
    data = f"upstream u {{ {text} }}".encode()
    members: tuple[UpstreamMember, ...] = ()
    line = 1
    try:
        members = nginx.members({"/n": data}, "/n")
    except NginxSyntaxError as error:
        line = error.line
    assert 1 <= line <= text.count("\n") + 1
    for member in members:
        edited = nginx.edit(data, member.upstream, member.address, down=True)
        assert nginx.members({"/n": edited}, "/n") != members or member.down

"""The schema of the cluster file: the keys that config knows, and no harsher than config."""

from __future__ import annotations

import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop import config
from llamatop.cli import schema as command
from llamatop.config import file
from llamatop.config.schema import FILE, schema
from llamatop.errors import ConfigError

SAMPLES = Path(__file__).parents[3] / "sample_clusters"
MADE = schema()
CHECK = jsonschema.Draft7Validator(MADE)
NODE = '[[node]]\nname = "n"\nssh = "h"\n'


def properties(*path: str) -> list[str]:
    table = MADE
    for key in path:
        table = table["properties"][key]  # type: ignore[index]
        table = table.get("items", table)  # type: ignore[attr-defined]
    return list(table["properties"])  # type: ignore[call-overload]


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(MADE)


def test_it_has_the_keys_that_config_knows_and_no_others() -> None:
    assert properties() == list(file.CLUSTER_KEYS)
    assert properties("node") == list(file.NODE_KEYS)
    assert properties("node", "worker") == list(file.WORKER_KEYS)
    assert properties("balancer") == list(file.BALANCER_KEYS)
    assert properties("silence") == list(file.SILENCE_KEYS)
    assert properties("alerts") == list(file.ALERTS_KEYS)


def test_every_key_is_explained() -> None:
    def explained(table: dict[str, object]) -> None:
        for key, value in table["properties"].items():  # type: ignore[attr-defined]
            assert value["description"].endswith("."), key
            inner = value.get("items", value)
            if "properties" in inner:
                explained(inner)

    explained(MADE)


def test_the_published_file_is_the_schema() -> None:
    """`llamatop schema > sample_clusters/cluster.schema.json` mends it."""
    assert (SAMPLES / FILE).read_text("utf-8") == command.text()


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_sample_names_the_schema_and_passes_it(path: Path) -> None:
    text = path.read_text("utf-8")
    assert text.startswith(f"#:schema {FILE}\n")
    CHECK.validate(tomllib.loads(text))


WRONG = [
    "",
    'name = "c"\n',
    "node = []\n",
    "node = 3\n",
    '[node]\nname = "n"\n',
    '[[node]]\nname = "n"\n',
    '[[node]]\nssh = "h"\n',
    f"interval = 0\n{NODE}",
    f'interval = "1"\n{NODE}',
    f"intervall = 1\n{NODE}",
    f'{NODE}url = "http://h"\n',
    '[[node]]\nname = "n"\nurl = "http://h"\nunits = ["u"]\n',
    '[[node]]\nname = "n"\nurl = "h:8080"\n',
    '[[node]]\nname = "n"\nurl = "http://user@h:8080"\n',
    '[[node]]\nname = "a/b"\nssh = "h"\n',
    '[[node]]\nname = "-a"\nssh = "h"\n',
    '[[node]]\nname = "n[a-b]"\nssh = "h"\n',
    '[[node]]\nname = "n[1:2]"\nssh = "h"\n',
    '[[node]]\nname = "n"\nssh = "a b"\n',
    '[[node]]\nname = "n"\nssh = "-oProxyCommand=x"\n',
    f'{NODE}units = "u"\n',
    f"{NODE}units = [3]\n",
    f'{NODE}[[node.worker]]\nmember = "127.0.0.1:1"\n',
    f'{NODE}[[node.worker]]\nunit = "u"\napi_key = "secret"\n',
    f'{NODE}[[node.worker]]\nunit = "u"\napi_key_env = "sk-0123"\n',
    f'{NODE}[[node.worker]]\nunit = "u*"\n',
    f'{NODE}[balancer]\nnode = "n"\n',
    f'{NODE}[balancer]\nupstream = "u"\n',
    f'{NODE}[balancer]\nnode = "n"\nupstream = "u;"\n',
    f'{NODE}[balancer]\nnode = "n"\nupstream = "u"\nkind = "haproxy"\n',
    f'{NODE}[balancer]\nnode = "n"\nupstream = "u"\ntest = []\n',
    f'{NODE}[balancer]\nnode = "n"\nupstream = "u"\nreload = "docker exec"\n',
    f'{NODE}[[silence]]\nplace = "node1"\n',
    f'{NODE}[[silence]]\nrule = "unit-nothing"\n',
    f'{NODE}[[silence]]\nrule = "host-key"\nplace = 3\n',
    f'{NODE}[silence]\nrule = "host-key"\n',
]


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_fails_both(text: str, tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        config.load(path)
    assert not CHECK.is_valid(tomllib.loads(text))


# Parts that are right, odd or wrong, in every mixture: what config takes, an editor must not mark.
WORDS = st.sampled_from(
    [
        "n",
        "node 1",
        "ops@10.0.0.12:2222",
        "ssh://ops@[fe80::1]:22/",
        "-user@h",
        "n[01-02]",
        "[1-2]n[3,4]",
        "h:[8080-8081]",
        "http://h:[1-2]",
        "local",
        "http://h:8080",
        "HTTPS://h/path",
        "http://h?",
        "http://[::1]:80",
        "unix:/run/x.sock",
        "[::1]:80",
        "ollama@1.service",
        "llama-server-gpu*",
        "KEY",
        "_k9",
        "nginx",
        " x",
        "é",
        "a/b",
        "",
    ]
)
VALUES = st.one_of(WORDS, st.lists(WORDS, max_size=2), st.sampled_from([0.1, 1, 3600.0, 0, True]))


def table(keys: tuple[str, ...], *needed: str, **more: st.SearchStrategy[object]) -> object:
    given_keys = {key: more.get(key, VALUES) for key in keys}
    return st.fixed_dictionaries(
        {key: given_keys[key] for key in needed},
        optional={key: value for key, value in given_keys.items() if key not in needed},
    )


WORKER = table(file.WORKER_KEYS, "unit", unit=WORDS, url=WORDS, member=WORDS, api_key_env=WORDS)
ONE_NODE = st.one_of(
    table(("name", "ssh", "units"), "name", "ssh", name=WORDS, ssh=WORDS),
    table(("name", "url"), "name", "url", name=WORDS, url=WORDS),
    table(
        file.NODE_KEYS,
        "name",
        name=WORDS,
        ssh=WORDS,
        worker=st.lists(WORKER, max_size=2),  # type: ignore[arg-type]
    ),
)
BALANCER = table(file.BALANCER_KEYS, "node", "upstream", node=WORDS, upstream=WORDS, kind=WORDS)
DOCUMENT = table(
    ("name", "interval", "node", "balancer"),
    "node",
    name=WORDS,
    node=st.lists(ONE_NODE, min_size=1, max_size=2),  # type: ignore[arg-type]
    balancer=BALANCER,  # type: ignore[arg-type]
)


@given(DOCUMENT)  # type: ignore[arg-type]
def test_whatever_config_accepts_passes(tmp_path_factory: object, document: object) -> None:
    import tomlkit

    path = Path(tmp_path_factory.getbasetemp()) / "cluster.toml"  # type: ignore[attr-defined]
    path.write_text(tomlkit.dumps(document))  # type: ignore[arg-type]
    try:
        config.load(path)
    except ConfigError:
        return
    CHECK.validate(document)

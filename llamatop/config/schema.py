"""The cluster file as a JSON schema, for editors that complete and check TOML by one.

Draft 7, which Taplo and Even Better TOML read. Whatever config.load accepts passes it; what it
cannot say (a name used twice, a balancer on no node) config.load alone finds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from llamatop.model.rules import IDS

from . import checks
from .file import ALERTS_KEYS, BALANCER_KEYS, CLUSTER_KEYS, NODE_KEYS, SILENCE_KEYS, WORKER_KEYS

FILE: Final = "cluster.schema.json"

Schema = dict[str, object]

# Something that is not blank.
_TEXT: Final[Schema] = {"type": "string", "pattern": r"\S"}
# With ranges: node[01-64].
_RANGE: Final = r"\[[0-9,-]+\]"
_NAME: Final[Schema] = {
    "type": "string",
    "pattern": rf"^([^\s/*?\[\]-]|{_RANGE})(([^/*?\[\]]|{_RANGE})*([^\s/*?\[\]]|{_RANGE}))?$",
}
_SSH: Final[Schema] = {"type": "string", "pattern": r"^([^\s-]|-.*@)\S*$"}
_URL: Final[Schema] = {"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\s?#@]+[?#]?$"}
_UNIT: Final[Schema] = {"type": "string", "pattern": r"^[^\s/*?]+$"}
_HOOK: Final[Schema] = {"type": "string", "pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://\S+$"}
_VARIABLE: Final[Schema] = {"type": "string", "pattern": r"^[A-Za-z_][A-Za-z0-9_]{0,99}$"}
_ADDRESS: Final[Schema] = {"type": "string", "pattern": r"^[^\s;{}'\"#]+$"}
_WORDS: Final[Schema] = {"type": "array", "items": _TEXT, "minItems": 1}


def schema() -> Schema:
    """The whole schema, of exactly the keys that config.load knows."""
    worker = _table(WORKER_KEYS, _WORKER, ["unit"])
    node = _table(NODE_KEYS, {**_NODE, "worker": _many(worker, _NODE_WORKER)}, ["name"])
    node["oneOf"] = [
        {"required": ["ssh"], "not": {"required": ["url"]}},
        {"required": ["url"], "not": {"anyOf": [{"required": ["ssh"]}, {"required": ["units"]}]}},
    ]
    node["x-taplo"] = {"initKeys": ["name", "ssh"]}
    balancer = _table(BALANCER_KEYS, _BALANCER, ["node", "upstream"])
    balancer["description"] = "Where nginx's upstream is; without it llamatop looks for one."
    nodes = {**_many(node, "One machine."), "minItems": 1}
    silences = _many(
        _table(SILENCE_KEYS, _SILENCE, ["rule"]),
        "A finding of llamatop doctor that is not to be told.",
    )
    alerts = _table(ALERTS_KEYS, _ALERTS, [])
    alerts["description"] = "Who hears of findings that come and go while llamatop runs."
    tables = {"node": nodes, "balancer": balancer, "silence": silences, "alerts": alerts}
    cluster = _table(CLUSTER_KEYS, {**_CLUSTER, **tables}, ["node"])
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "llamatop cluster file",
        "description": "The machines of a llama.cpp cluster, and the nginx before them.",
        **cluster,
    }


def _table(keys: Sequence[str], known: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {key: known[key] for key in keys},
    }


def _many(item: Schema, description: str) -> Schema:
    return {"type": "array", "items": item, "description": description}


def _said(kind: Schema, description: str, **more: object) -> Schema:
    return {**kind, "description": description, **more}


_NODE_WORKER = "A worker that discovery needs help with: a key, an address, its server line."

_CLUSTER: Final[Mapping[str, Schema]] = {
    "name": _said(_TEXT, "What the cluster is called; default: the file's name."),
    "interval": {
        "type": "number",
        "minimum": checks.SHORTEST_INTERVAL_SECONDS,
        "maximum": checks.LONGEST_INTERVAL_SECONDS,
        "default": 1.0,
        "description": "Seconds between two ticks.",
    },
    "ssh_config": _said(
        _TEXT, "An ssh configuration in place of your own, relative to this file or with ~."
    ),
    "known_hosts": _said(
        _TEXT, "A known_hosts file in place of your own, relative to this file or with ~."
    ),
}

_NODE: Final[Mapping[str, Schema]] = {
    "name": _said(
        _NAME,
        "What the node is called here; its workers are NAME/UNIT. With a range of numbers it is as"
        " many nodes; ssh, url and a worker's member then have one as long.",
        examples=["node1", "node[01-64]", "r[1-8]n[1-8]"],
    ),
    "ssh": _said(
        _SSH,
        'What you would type after ssh (host, user@host:port); "local" for this machine.',
        examples=["node1", "ops@10.0.0.12:2222", "local", "node[01-64]"],
    ),
    "url": _said(
        _URL,
        "In place of ssh: the server itself, read by HTTP alone; cards and unit stay unknown.",
        examples=["http://10.0.0.20:8080"],
    ),
    "units": {
        "type": "array",
        "items": _TEXT,
        "description": "Units to show, as shell globs; default: every unit whose ExecStart runs"
        " llama-server, Ollama or vLLM.",
        "examples": [["llama-server-gpu*"]],
    },
}

_WORKER: Final[Mapping[str, Schema]] = {
    "unit": _said(_UNIT, "The unit, with or without .service.", examples=["llama-server-gpu0"]),
    "url": _said(_URL, "Where it answers, as seen from the node."),
    "member": _said(
        _ADDRESS, "Its server line in the upstream, as nginx has it.", examples=["127.0.0.1:37083"]
    ),
    "api_key_env": _said(
        _VARIABLE,
        "The name of a variable where llamatop runs that holds the key; never the key itself.",
        examples=["LLAMA_API_KEY"],
    ),
}

_BALANCER: Final[Mapping[str, Schema]] = {
    "node": _said(_TEXT, "The node that nginx runs on."),
    "kind": {"enum": ["nginx"], "default": "nginx", "description": "The kind of balancer."},
    "upstream": _said(_ADDRESS, "The name of the upstream."),
    "test": _said(
        _WORDS,
        "A command in place of nginx -t, as a list of words.",
        examples=[["docker", "exec", "edge", "nginx", "-t"]],
    ),
    "reload": _said(
        _WORDS,
        "A command in place of systemctl reload, as a list of words.",
        examples=[["docker", "exec", "edge", "nginx", "-s", "reload"]],
    ),
}

_SILENCE: Final[Mapping[str, Schema]] = {
    "rule": {"enum": list(IDS), "description": "The finding's id."},
    "place": _said(
        _TEXT,
        "Where: a shell glob over places as the doctor names them; default: everywhere.",
        examples=["node1", "node1/*", "node1:GPU0"],
    ),
    "reason": _said(_TEXT, "Why, for whoever reads this file."),
}

_ALERTS: Final[Mapping[str, Schema]] = {
    "command": _said(
        _WORDS,
        "A command, as a list of words: each finding is JSON on its standard input.",
        examples=[["/usr/local/bin/page-me"]],
    ),
    "webhook": _said(
        _HOOK,
        "An address that each finding is POSTed to as JSON; it is never shown.",
        examples=["https://example.org/hook"],
    ),
}

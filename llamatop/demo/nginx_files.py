"""The configuration of a simulated nginx: written once, then read and judged as nginx would."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import crossplane
from msgspec import Struct

from .shape import FRONT_PORT, ClusterShape

WORKER_PROCESSES = 2


class Member(Struct, frozen=True):
    """One server line of an upstream."""

    address: str
    down: bool
    weight: int
    backup: bool


def configure(
    root: Path, shape: ClusterShape, upstreams: Mapping[str, Sequence[tuple[str, str, int]]]
) -> Path:
    """Write the configuration of a fresh machine under `root`; gives the main file's path.

    `upstreams` have their members, (address, comment, weight) each; what is asked for below the
    path /NAME/ goes to the one called so, all else to the cluster's own.
    """
    base = root / "etc/nginx"
    for folder in ("sites-available", "sites-enabled", "conf.d"):
        (base / folder).mkdir(parents=True, exist_ok=True)
    main = base / "nginx.conf"
    main.write_text(
        "user www-data;\n"
        f"worker_processes {WORKER_PROCESSES};\n"
        "pid /run/nginx.pid;\n\n"
        "events {\n    worker_connections 768;\n}\n\n"
        "http {\n"
        "    # Token streams must not wait in a buffer.\n"
        "    proxy_buffering off;\n"
        "    proxy_read_timeout 600s;\n"
        "    # What one worker failed at must not load another.\n"
        "    proxy_next_upstream off;\n\n"
        f"    include {base}/conf.d/*.conf;\n"
        f"    include {base}/sites-enabled/*;\n"
        "}\n"
    )
    method = "    least_conn;\n" if shape.least_conn else ""
    blocks = "".join(
        f"upstream {name} {{\n{method}{_servers(members)}}}\n\n"
        for name, members in upstreams.items()
    )
    locations = "".join(
        f"    location {'/' if name == shape.upstream else f'/{name}/'} {{\n"
        f"        proxy_pass http://{name}{'' if name == shape.upstream else '/'};\n"
        "        proxy_http_version 1.1;\n"
        '        proxy_set_header Connection "";\n'
        "    }\n"
        for name in upstreams
    )
    host = shape.node(shape.balancer).address if shape.balancer else "127.0.0.1"
    site = base / "sites-available/llama"
    site.write_text(f"{blocks}server {{\n    listen {host}:{FRONT_PORT};\n{locations}}}\n")
    (base / "sites-enabled/llama").symlink_to("../sites-available/llama")
    return main


def _servers(members: Sequence[tuple[str, str, int]]) -> str:
    lines = [
        (address if weight == 1 else f"{address} weight={weight}", comment)
        for address, comment, weight in members
    ]
    width = max((len(line) for line, _ in lines), default=0) + 1
    return "".join(f"    server {line + ';':{width}}  # {comment}\n" for line, comment in lines)


def _closing_line(block: dict[str, Any]) -> int:
    lines: list[int] = [block["line"], *(line["line"] for line in block["block"])]
    return max(lines) + 1


def read(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The parsed files and nginx's complaints about them, none where they are valid."""
    result = crossplane.parse(str(path), strict=True, check_args=True)
    problems = [_complaint(entry["error"]) for entry in result["errors"]]
    if not problems:
        problems = [
            f"no servers are inside upstream in {file}:{_closing_line(block)}"
            for file, block in _upstreams(result["config"])
            if not any(line["directive"] == "server" for line in block["block"])
        ]
    return result["config"], problems


def members(files: list[dict[str, Any]]) -> dict[str, tuple[tuple[Member, ...], bool]]:
    """Each upstream's server lines, and whether the fewest connections decide (least_conn)."""
    found = {}
    for _, block in _upstreams(files):
        lines = [line["args"] for line in block["block"] if line["directive"] == "server"]
        least_conn = any(line["directive"] == "least_conn" for line in block["block"])
        servers = tuple(
            Member(
                args[0],
                "down" in args,
                next((int(a[7:]) for a in args if a.startswith("weight=")), 1),
                "backup" in args,
            )
            for args in lines
        )
        found[block["args"][0]] = (servers, least_conn)
    return found


def _complaint(text: str) -> str:
    return text.replace("[Errno 2] No such file or directory:", "open() failed (2):")


def _upstreams(files: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in files:
        stack = list(file["parsed"])
        while stack:
            directive = stack.pop()
            if directive["directive"] == "upstream":
                yield file["file"], directive
            else:
                stack += directive.get("block") or []

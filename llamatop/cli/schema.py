"""`llamatop schema`: the JSON schema by which editors complete and check a cluster file."""

from __future__ import annotations

import argparse


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `schema`."""
    parser = subparsers.add_parser(
        "schema",
        help="print the cluster file's JSON schema, for editors",
        description="Print the JSON schema of the cluster file. Beside a file whose first line is"
        " `#:schema cluster.schema.json`, editors with Taplo (Even Better TOML) complete the keys"
        " and mark what is wrong.",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print it."""
    print(text(), end="")
    return 0


def text() -> str:
    """The schema as it stands in sample_clusters/."""
    import json

    from llamatop.config.schema import schema

    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"

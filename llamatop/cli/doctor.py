"""`llamatop doctor`: what makes the cluster slow or fragile, with evidence and the mend."""

from __future__ import annotations

import argparse
import sys

from llamatop.cli.options import add_hosts, add_record

_DESCRIPTION = """\
What makes the cluster slow or fragile, worst first: the values seen, why they
matter, and the mend. One look, nothing is changed; models' headers are waited
for, 10 s at most. What only shows with time, as a queue that stays, the
dashboard tells (a). What is unknown is no finding;
what is not wanted is silenced in the cluster file:

  [[silence]]
  rule = "unit-not-enabled"      # the finding's id
  place = "node1*"               # a glob; without it everywhere

exit status: 0 nothing worse than a remark (info)   1 an error or a warning,
or a node that could not be read   3 no node could be reached   70 a rule
failed, and the others found nothing"""


def add(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register `doctor`."""
    parser = subparsers.add_parser(
        "doctor",
        help="what makes the cluster slow or fragile, and the mend",
        description=_DESCRIPTION,
    )
    add_hosts(parser)
    add_record(parser)
    parser.add_argument(
        "--json", action="store_true", help="print JSON: a finding for every single place"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the findings; 0 well, 1 not, 3 where nothing could be reached, 70 a rule's fault."""
    from llamatop.advise.doctor import judge
    from llamatop.cli import interrupt, render_findings
    from llamatop.cli.options import require_cluster
    from llamatop.cli.reading import HEADERS_SECONDS, complete_sample, unread
    from llamatop.cli.recording import recorder
    from llamatop.cli.streams import complain

    cluster = require_cluster(args)
    with recorder(args.record) as record:
        snapshot = interrupt.run(complete_sample(cluster, record, headers=True))
    diagnosis = judge(snapshot)
    away = [node for node in snapshot.nodes if not node.reachable]
    if args.json:
        print(render_findings.to_json(diagnosis, snapshot))
    else:
        render_findings.print_findings(diagnosis, sys.stdout)
    for fault in diagnosis.faults:
        complain(fault)
    for worker in unread(snapshot):
        complain(
            f"{worker.name}: the header of its model was not read within {HEADERS_SECONDS:.0f} s;"
            " whether it fits is not judged"
        )
    for node in away:
        complain(f"{node.name} is not judged: {node.fault or 'it does not answer'}")
    if not args.json:
        complain(render_findings.summary(diagnosis, len(away)))
    if away and len(away) == len(snapshot.nodes):
        return 3
    if away or not diagnosis.well:
        return 1
    return 70 if diagnosis.faults else 0

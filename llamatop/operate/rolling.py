"""Which workers go together in a roll, so that enough stay in at any time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llamatop.model.cluster import ClusterSnapshot

from . import guards
from .files import Member
from .targets import Target


def batches(
    snapshot: ClusterSnapshot,
    targets: Sequence[Target],
    serving: Mapping[str, Sequence[Member]],
    at_once: int,
    keep: int,
) -> list[list[Target]]:
    """The targets in their order, in groups of `at_once` at most.

    A group is smaller where more would leave fewer than `keep` in; one that is too much by itself
    stands alone, for the guard to refuse. `serving` are each target's server lines that are in.
    """
    groups: list[list[Target]] = []
    for target in targets:
        group = [*groups[-1], target] if groups else []
        leaving = [member for one in group for member in serving[one.name]]
        if group and len(group) <= at_once and not guards.objections(snapshot, leaving, keep):
            groups[-1] = group
        else:
            groups.append([target])
    return groups

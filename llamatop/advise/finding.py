"""A finding: something that is not as it should be, with the values that show it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from llamatop.model.cluster import ClusterSnapshot, Severity
from llamatop.model.plan import Action


class Mend(Struct, frozen=True):
    """A mend that llamatop can do: an action, and its targets as the command line takes them."""

    action: Action
    targets: tuple[str, ...] = ()


class Finding(Struct, frozen=True):
    """One thing to mend at one place.

    `id` is the rule's, in words joined by hyphens (`gpu-persistence-off`). `place` is a node
    (`node1`), a worker (`node1/gpu0`), a card (`node1:GPU2`), a unit (`node1:autossh.service`) or
    a line of a file (`node1:/etc/nginx/conf.d/llama.conf:12`). `evidence` holds the very values
    seen, `why` says in one line why it matters, `mend` what to do; all are plain text.
    `plan` is the same mend as a plan, None where llamatop has none.
    """

    id: str
    severity: Severity
    place: str
    evidence: str
    why: str
    mend: str
    plan: Mend | None = None


# Yields what it finds; unknown values are no finding. O(nodes + workers + cards), reads only.
Rule = Callable[[ClusterSnapshot], Iterator[Finding]]

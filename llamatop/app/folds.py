"""Which nodes are folded, and the lines that the table then has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from llamatop.app.nodes import Line, NodeRow, arrange_nodes
from llamatop.app.rows import arrange

# So many rows may scroll before nodes are folded by themselves.
FEW_ROWS = 16


class Folds:
    """Every node is folded, or none is, save those that the person made different."""

    def __init__(self) -> None:
        self._all = False
        self._others: set[str] = set()
        self._by_hand = False

    def folded(self, node: str) -> bool:
        """Whether the node's workers are hidden."""
        return self._all != (node in self._others)

    def fold(self, node: str, folded: bool) -> None:
        """Hide or show the workers of one node."""
        if self.folded(node) != folded:
            self._others ^= {node}
            self._by_hand = True

    def fold_all(self, folded: bool) -> None:
        """Hide or show all workers."""
        self._all, self._by_hand = folded, True
        self._others.clear()

    def suggest(self, folded: bool) -> None:
        """What suits the terminal; heard only until the person decides."""
        if not self._by_hand and self._all != folded:
            self._all = folded
            self._others.clear()

    def any(self, nodes: Iterable[str]) -> bool:
        """Whether a node among these is folded."""
        return any(map(self.folded, nodes))


def too_many(nodes: int, rows: int, visible: int) -> bool:
    """Whether so many rows are better read by node."""
    return nodes > 1 and rows > max(visible, FEW_ROWS)


def tree(nodes: Sequence[NodeRow], folds: Folds, sort: str) -> list[Line]:
    """Every node's line, below it its rows where it is not folded; both in the order `sort`."""
    lines: list[Line] = []
    for node in arrange_nodes(nodes, sort):
        lines.append(node)
        if not folds.folded(node.node):
            lines += arrange(node.listed, sort)
    return lines

"""nginx's files as one tree of blocks, includes put in where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from llamatop.errors import NginxSyntaxError

from .directives import decode, directives
from .upstreams import DEEPEST_INCLUDE, included


class Line(Struct, frozen=True):
    """A simple directive: its words, and where it stands."""

    words: tuple[str, ...]
    file: str
    line: int


class Block(Struct):
    """A block: the words before its brace, and what stands in it."""

    words: tuple[str, ...]
    file: str
    line: int
    lines: list[Line] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)

    def named(self, name: str) -> list[Block]:
        """The blocks directly in it that begin with `name`."""
        return [block for block in self.blocks if block.words[0] == name]

    def every(self, *names: str) -> list[Line]:
        """The simple directives directly in it that begin with one of `names`."""
        return [line for line in self.lines if line.words[0] in names]

    def first(self, name: str) -> Line | None:
        """The directive `name` directly in it; nginx refuses a second one."""
        return next((line for line in self.lines if line.words[0] == name), None)


def tree(files: Mapping[str, bytes], main: str) -> Block:
    """The whole configuration, `main` as the outermost block; see `members` for `files`.

    Raises NginxSyntaxError with file and line.
    """
    if main not in files:
        raise NginxSyntaxError(main, 1, "the main file was not read")
    root = Block((), main, 1)
    _read(files, main, main, root, ())
    return root


def _read(
    files: Mapping[str, bytes], main: str, file: str, into: Block, chain: tuple[str, ...]
) -> None:
    if file in chain or len(chain) > DEEPEST_INCLUDE:
        raise NginxSyntaxError(file, 1, f"it includes itself through {' > '.join(chain)}")
    open_blocks = [into]
    for directive in directives(decode(files[file]), file):
        words = tuple([word.value for word in directive.words])
        if directive.ended_by == "{":
            block = Block(words, file, directive.line)
            open_blocks[-1].blocks.append(block)
            open_blocks.append(block)
        elif directive.ended_by == "}":
            open_blocks.pop()
        elif directive.name == "include" and len(words) == 2:
            for path in included(files, main, words[1]):
                _read(files, main, path, open_blocks[-1], (*chain, file))
        else:
            open_blocks[-1].lines.append(Line(words, file, directive.line))


def chains(outer: tuple[Block, ...]) -> Iterator[tuple[Block, ...]]:
    """Every block inside the last of `outer`, with all that surround it, outermost first."""
    for block in outer[-1].blocks:
        chain = (*outer, block)
        yield chain
        yield from chains(chain)

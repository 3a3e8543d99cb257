"""Text that came from a node, made safe for a terminal."""

from __future__ import annotations

# Bidirectional controls reorder what stands beside them; tags and invisibles hide in a name.
_INVISIBLE = (
    *range(0x80, 0xA0),
    0xAD,
    0x61C,
    0x180E,
    0x200B,
    0x200E,
    0x200F,
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    0xFEFF,
    *range(0xFFF9, 0xFFFC),
    *range(0xE0000, 0xE0080),
)

_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20)},
    0x7F: "\u2421",
    **{code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in _INVISIBLE},
    **dict.fromkeys(range(0xD800, 0xE000), "\ufffd"),
}


def plain(text: str) -> str:
    """`text` on one line, each control character as a visible one (escape is ␛, newline is ␊).

    Also made visible: C1 controls, bidirectional and invisible formatting characters; a lone
    surrogate becomes U+FFFD, so that the result can always be encoded. Same idea as `cat -v`.
    """
    return text if text.isprintable() else text.translate(_VISIBLE)

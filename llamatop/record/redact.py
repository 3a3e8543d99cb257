"""Secrets in text that ends in a file: found by the flag, variable, header or URL they stand in."""

from __future__ import annotations

import re
from collections.abc import Iterable

HIDDEN = "***"
_SHORTEST = 4
_KNOWN_TEXTS = 50_000

_SECRECY = r"api[-_]?keys?|secrets?|passwords?|passwd|credentials?|hft"
# Each search begins at the beginning of a word alone, or a long text would be read for each part of
# one again. A key or a token alone may be many other things; with a word before it, or a value
# after =, not.
_WORD = r"(?<![\w.-])[\w.-]*"
_PLAIN_NAME = rf"(?:[a-z0-9]+[-_.])*(?:{_SECRECY}|key|token)(?![a-z0-9])"
_NAME = rf"{_WORD}(?<![a-z0-9])(?:{_SECRECY}|key|token)(?![a-z0-9])"
_CLEAR_NAME = rf"{_WORD}(?:(?<![a-z0-9])(?:{_SECRECY})|(?<=[a-z0-9][-_.])(?:key|token))(?![a-z0-9])"
_VALUE = r"(\"[^\"]*\"|'[^']*'|[^\s\"';,}\]]+)"
# Where a value may be several, with commas between.
_LIST = r"(\"[^\"]*\"|'[^']*'|[^\s\"';}\]]+)"
# A line that goes on in the next one, comments too.
_CONTINUED = r"(?:\\\r?\n[\s#;]*)?"
_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        # https://user:password@host, and a password among a URL's parameters
        r"(?P<keep>://)[^\s/@]+(?=@)",
        rf"(?P<keep>[?&]{_PLAIN_NAME}=)[^\s&#]+",
        # Authorization: Bearer …, X-Api-Key: …
        r"(?P<keep>\bauthorization[\"']?\s*(?:[:=]\s*)?[\"']?(?:bearer|basic|token)\s+)[^\s\"']+",
        r"(?P<keep>\bbearer\s+)[A-Za-z0-9._~+/=-]{8,}",
        # --api-key VALUE, --api-key=VALUE; a path is where a secret is, not what it is
        rf"(?P<keep>(?<![\w-])--?{_PLAIN_NAME}(?:[\"']?\s+{_CONTINUED}|=))(?![-/]){_LIST}",
        # LLAMA_API_KEY=…, password: …, "token": "…"
        rf"(?P<keep>{_NAME}=)(?!/){_LIST}",
        rf"(?P<keep>{_CLEAR_NAME}[\"']?\s*[:=]\s*)(?!/){_VALUE}",
        # What looks like a key wherever it stands.
        r"(?P<keep>\b(?:sk|pk|rk)-)[A-Za-z0-9_-]{16,}",
        r"(?P<keep>\b(?:hf|ghp|gho|glpat)[_-])[A-Za-z0-9_-]{16,}",
    )
)
# No pattern matches a text without one of these.
_HINT = re.compile(
    r"://|key|token|secret|passw|credential|bearer|authorization|hft|sk-|pk-|rk-|hf_|ghp|gho|glpat",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    rf"-{{0,2}}(?:[a-z0-9]+[-_.])*(?:{_SECRECY}|key|token)(?:[-_.]\d+)?", re.IGNORECASE
)


def names_a_secret(name: str) -> bool:
    """Whether the value of a flag or variable of this name is a secret."""
    return _SECRET_NAME.fullmatch(name) is not None


class Redactor:
    """Calls with a text give it without secrets; `secrets` are those known by their value."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        self._known: dict[str, str] = {}
        self.hide(secrets)

    def hide(self, secrets: Iterable[str]) -> None:
        """Know these by their value from now on, too."""
        worth = {secret for secret in secrets if len(secret) >= _SHORTEST}
        # The longest first: one may be a part of another.
        self._secrets = sorted(worth.union(self._secrets), key=len, reverse=True)
        self._known.clear()

    def __call__(self, text: str) -> str:
        """`text` with each secret as `***`."""
        found = self._known.get(text)
        if found is None:
            if len(self._known) >= _KNOWN_TEXTS:
                self._known.clear()
            found = self._known[text] = self._redacted(text)
        return found

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if _HINT.search(text):
            for pattern in _PATTERNS:
                text = pattern.sub(rf"\g<keep>{HIDDEN}", text)
        return text

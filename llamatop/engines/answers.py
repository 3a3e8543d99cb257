"""What an HTTP answer means, before any engine looks inside: data, or a health and a sentence.

Any bytes may come; nothing here raises on them.
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List

    from .exchange import Response

_LARGEST = 2**63


class Answer:
    """An answer judged: exactly one of `data` or (`health`, `fault`) tells something.

    `health` is None for a good answer and for one that is switched `off` (404, 501).
    """

    __slots__ = ("data", "fault", "health", "off")

    def __init__(
        self,
        data: Any = None,
        health: str | None = None,
        fault: str | None = None,
        off: bool = False,
    ) -> None:
        self.data = data
        self.health = health
        self.fault = fault
        self.off = off


def judge(response: Response, path: str, key: bool, text: bool = False) -> Answer:
    """The meaning of `response` to `path`; `text` wants bytes, otherwise JSON."""
    if response.error is not None:
        return _no_answer(response, path)
    status = response.status
    if status == 200:
        if text:
            return _text(response, path)
        return _json(response, path)
    if status == 503 and _loading(response.body):
        return Answer(health="loading")
    if status in (401, 403):
        return Answer(health="unauthorized", fault=_unauthorized(key))
    if status in (404, 405, 501):
        return Answer(off=True)
    return Answer(health="error", fault=f"{path} answered {status}: {_message(response.body)}")


def _no_answer(response: Response, path: str) -> Answer:
    if response.timed_out:
        return Answer(health="unreachable", fault=f"{path} did not answer: {response.error}")
    if response.refused:
        return Answer(health="unreachable", fault=f"nothing listens there: {response.error}")
    return Answer(health="error", fault=f"{path}: {response.error}")


def _unauthorized(key: bool) -> str:
    if key:
        return "refuses the API key it was given; correct the variable that api_key_env names"
    return "wants an API key; name the variable that holds it as api_key_env in a cluster file"


def _loading(body: bytes) -> bool:
    return b"oading" in body[:4096] or not body.strip()


def _json(response: Response, path: str) -> Answer:
    try:
        return Answer(data=json.loads(response.body))
    except (ValueError, RecursionError):
        pass
    return Answer(health="error", fault=f"{path} is not JSON but {_looks_like(response)}")


def _text(response: Response, path: str) -> Answer:
    start = response.body[:512].lstrip().lower()
    if start.startswith((b"<", b"{", b"[")) or not start:
        return Answer(
            health="error", fault=f"{path} is not Prometheus text but {_looks_like(response)}"
        )
    return Answer(data=response.body)


def _looks_like(response: Response) -> str:
    body = response.body.lstrip()
    if not body:
        return "empty; does another program listen on this port?"
    if body.startswith(b"<"):
        return "HTML; does another program listen on this port?"
    if body[:1] in (b"{", b"["):
        return f"broken JSON of {len(response.body)} bytes"
    return f"{len(response.body)} bytes of something else; does another program listen there?"


def _message(body: bytes) -> str:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        found = None
    error = mapping(mapping(found).get("error"))
    text = error.get("message") or mapping(found).get("error")
    return text[:200] if isinstance(text, str) and text else "no message"


def mapping(value: Any) -> Dict[str, Any]:
    """`value` where it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def listing(value: Any) -> List[Any]:
    """`value` where it is a JSON list, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str | None:
    """`value` where it is a string that says something, cut at 1,000 characters."""
    return value[:1000] if isinstance(value, str) and value else None


def whole(value: Any) -> int | None:
    """`value` where it is a whole number a counter could hold; 5.0 is 5, true is not a number."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if -_LARGEST <= value < _LARGEST else None
    if isinstance(value, float) and value == value and abs(value) < _LARGEST:
        return int(value)
    return None


def flag(value: Any) -> bool | None:
    """`value` where it is true or false."""
    return value if isinstance(value, bool) else None


def known(values: Dict[str, Any]) -> Dict[str, Any]:
    """`values` without what is unknown: on the wire an absent key is None."""
    return {key: value for key, value in values.items() if value is not None}

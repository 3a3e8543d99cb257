"""What a Prometheus line may look like, and what every engine makes of any answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamatop.engines import ENGINES, prometheus, slots
from llamatop.engines.exchange import Response

from .recorded import LLAMA, REFUSED, TIMED_OUT, Server, response


@pytest.mark.parametrize("printed", [b"-1", b"-1e308", b"1e308", b"1e19", b"nan", b"+Inf", b"x"])
def test_what_no_counter_can_hold_is_skipped(printed: bytes) -> None:
    assert prometheus.values(b"a " + printed + b"\nb 7\n", (b"a", b"b")) == {b"b": (7.0, 1.0)}


@pytest.mark.parametrize(
    ("inside", "read"),
    [
        (b'engine="0",model_name="Qwen/Qwen3-8B"', {"engine": "0", "model_name": "Qwen/Qwen3-8B"}),
        (b'a="x,y=\\"z\\"}",b="\\\\ \\n"', {"a": 'x,y="z"}', "b": "\\ \n"}),
        (b'a="\xff"', {"a": "\ufffd"}),
        (b'a="open', {}),
        (b"", {}),
    ],
)
def test_labels(inside: bytes, read: dict[str, str]) -> None:
    assert prometheus.labels(inside) == read


def test_a_metric_is_told_from_one_whose_name_begins_with_its_name() -> None:
    body = b'x 1\nx_y 2\nx{a="}"} 3\n  x 4\nx{a="b"}6 7\nx\nx 8 1700000000\n'
    assert [number for _, _, number, _ in prometheus.rows(body, (b"x", b"x"))] == [1, 3, 6, 8]


@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_every_engine_tells_refused_and_silent(engine: Any) -> None:
    class Everything(dict[str, Response]):
        def get(self, key: str, default: Any = None) -> Any:
            return self.answer

        answer = REFUSED

    for answer in (REFUSED, TIMED_OUT):
        server = Server({})
        server.answers = Everything()
        server.answers.answer = answer
        for conversation in (engine.read({}, False), engine.check({})):
            sample = server.talk(conversation)
            assert sample["health"] == "unreachable"
            assert sample["fault"]


@pytest.mark.parametrize(
    ("printed", "step"),
    [
        (b"0", 1),
        (b"99", 1),
        (b"999999", 1),
        (b"1e+06", 10),
        (b"1.0571e+06", 10),
        (b"3.00001e+08", 1000),
        (b"3.0000123e+08", 10),
        (b"1.23457E+07", 100),
        (b"12345678", 1),
        (b"nan", 1),
    ],
)
def test_the_step_of_a_printed_number(printed: bytes, step: float) -> None:
    assert prometheus.step(printed) == step


@given(st.integers(min_value=0, max_value=10**15))
def test_a_count_lies_within_half_a_step_of_what_was_printed(count: int) -> None:
    printed = f"{count:.6g}".encode()
    assert abs(float(printed) - count) <= prometheus.step(printed) / 2


@given(st.binary(), st.lists(st.sampled_from([b"a", b"b{x", b"}", b" ", b"1e5", b"\n", b"#"])))
def test_any_bytes_are_some_numbers(noise: bytes, pieces: list[bytes]) -> None:
    for number, width in prometheus.values(noise + b"".join(pieces), (b"a", b"b")).values():
        assert abs(number) < float("inf")
        assert width >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(
            ["id", "models", "expires_at", "size", "details", "digest", "n_ctx",
             "is_processing", "next_token", "n_decoded", "n_remain", "id_task",
             "data", "models", "name", "role", "status", "value", "args", "is_sleeping", "error"]
        ),
        inner,
        max_size=4,
    ),
    max_leaves=20,
)  # fmt: skip


@given(JSON)
def test_any_json_is_some_slots(data: Any) -> None:
    for number, slot in slots.parse(data).items():
        assert str(slot["id"]) == number
        assert isinstance(slot["busy"], bool)


@given(st.data())
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_any_answers_give_a_sample(engine: Any, data: st.DataObject) -> None:
    import json

    bodies = st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode())
    statuses = st.sampled_from([200, 200, 200, 200, 204, 302, 400, 401, 404, 500, 501, 503])

    class Wild(dict[str, Any]):
        def get(self, key: str, default: Any = None) -> Any:
            return Response(data.draw(statuses), {}, data.draw(bodies), at_seconds=1.0)

    memory: dict[str, Any] = {}
    server = Server({})
    server.answers = Wild()
    for _ in range(3):
        sample = server.talk(engine.read(memory, False))
        assert sample["health"] in ("ok", "loading", "unauthorized", "error", "unreachable")
        assert sample["health"] in ("ok", "loading") or sample["fault"]


def test_the_recorded_answers_are_real() -> None:
    assert response(LLAMA + "slots-busy").status == 200

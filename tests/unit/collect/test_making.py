"""What is made quickly is the same as what its own constructor makes."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, astuple, fields, replace
from typing import Any

import pytest

from llamatop.collect.making import maker
from llamatop.collect.rates import Rates
from llamatop.collect.rates_progress import Progress
from llamatop.collect.readers import KEY_FIELDS
from llamatop.model.cluster import GpuView, WorkerView
from llamatop.model.observed import HostSample, TokenCounters


@pytest.mark.parametrize(
    "kind", [*KEY_FIELDS, HostSample, TokenCounters, WorkerView, GpuView, Rates, Progress]
)
def test_it_is_what_its_own_constructor_makes_and_as_frozen(kind: type[Any]) -> None:
    values = list(range(len(fields(kind))))
    made = maker(kind)(*values)
    assert type(made) is kind
    assert made == kind(*values)
    assert hash(made) == hash(kind(*values))
    assert repr(made) == repr(kind(*values))
    assert list(astuple(replace(made))) == values
    with pytest.raises(FrozenInstanceError):
        setattr(made, fields(kind)[0].name, 1)


def test_a_field_that_is_not_given_is_an_error() -> None:
    with pytest.raises(TypeError, match="generation_tokens_total"):
        maker(Rates)(1.0, 2.0)

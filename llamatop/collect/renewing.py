"""A value read again after it changed: only what is new in it is read."""

from __future__ import annotations

import typing

from msgspec.structs import astuple

from llamatop.collect.readers import Field, fields_of, read_glances
from llamatop.collect.scalars import LARGEST, Complaints, WrongError
from llamatop.collect.ticks import PLACES
from llamatop.engines import slots
from llamatop.model.observed import Slot

_ROW = len(slots.FIELDS) + 1
# What the row of a busy slot is made of.
_WHOLE = (bool, *[int] * (len(slots.FIELDS) - 1))
_ALL = object()

Document = dict[str, typing.Any]


def again(
    kind: type,
    before: object,
    read: typing.Any,
    value: object,
    touched: object = None,
    whole: frozenset[str] = frozenset(),
) -> object:
    """`value` as `kind`, where `before` was read as `read` without complaint; same as `decode`.

    `touched` is the merge patch that made `value` of `before`, where that is known. None where it
    must be read whole: something is gone or wrong, or one of the fields `whole` changed.
    """
    if not isinstance(value, dict) or not isinstance(before, dict):
        return None
    patch: Document = touched if isinstance(touched, dict) else changes(before, value)
    known = fields_of(kind)
    glances = known.get("glances")
    figures: list[object] | None = None
    for name, change in patch.items():
        field = known.get(name)
        if field is None:
            continue
        if change is None or name in whole:
            return None
        if field is glances:
            continue
        if figures is None:
            figures = list(astuple(read))
        given = type(change)
        if given is field.exact and (given is str or -LARGEST < change < LARGEST):
            figures[field.place] = change
            continue
        place = field.place
        # Only a patch says in what is within it all that changed there.
        inner = change if patch is touched else None
        try:
            figures[place] = _renewed(
                name, field, before.get(name), figures[place], value[name], inner
            )
        except WrongError:
            return None
    if glances is not None and "glances" in value:
        complaints: Complaints = []
        figures = list(astuple(read)) if figures is None else figures
        figures[glances.place] = glances.reader(read_glances(value), "glances", complaints)
        if complaints:
            return None
    # What no noun of ours has a field for has changed, and nothing else.
    return read if figures is None else kind(*figures)


def changes(before: Document, after: Document) -> Document:
    """What of `after` is not the same object as before, by name, and None for what is gone."""
    found = {name: item for name, item in after.items() if before.get(name, _ALL) is not item}
    gone = before.keys() - after.keys()
    return {**found, **dict.fromkeys(gone)} if gone else found


def _renewed(
    name: str, field: Field, was: object, figure: object, item: object, touched: object
) -> object:
    """The value of one field; raises WrongError where all must be read whole."""
    renewed: object
    if name == "slots":
        renewed = _slots(item, was, figure, touched)
    elif field.nested is not None:
        renewed = again(field.nested, was, figure, item, touched)
    else:
        complaints: Complaints = []
        renewed = field.reader(item, name, complaints)
        if complaints:
            raise WrongError
    if renewed is None:
        raise WrongError
    return renewed


def _slots(value: object, before: object, read: object, touched: object) -> object:
    """Slots as a node sends them; None where anything is not plain.

    A slot is at the place of its number, which is its key: anything else is read whole.
    """
    if not isinstance(value, dict) or not isinstance(before, dict) or not isinstance(read, tuple):
        return None
    found: list[Slot] = list(typing.cast("tuple[Slot, ...]", read))
    if len(value) != len(found) or len(before) != len(found):
        return None
    for key in touched if isinstance(touched, dict) else value:
        row = value.get(key)
        if row is before.get(key):
            continue
        place = PLACES.get(key, len(found))
        if place >= len(found) or found[place].id != place or key not in before:
            return None
        if type(row) is not list or not 0 < len(row) < _ROW or type(row[0]) is not bool:
            return None
        if tuple(map(type, row)) == _WHOLE:
            if not -LARGEST < min(row) <= max(row) < LARGEST:
                return None
        elif not all(one is None or (type(one) is int and abs(one) < LARGEST) for one in row[1:]):
            return None
        found[place] = Slot(place, *row, *_UNKNOWN[len(row)])
    return tuple(found)


# A row may lack its last figures.
_UNKNOWN = [(None,) * (len(slots.FIELDS) - given) for given in range(_ROW)]

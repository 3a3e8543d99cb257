"""The data files beside the code: themes and sample clusters, from a wheel or from a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def folder(name: str) -> Path:
    """The folder `themes` or `sample_clusters`.

    A wheel carries it inside the package, a checkout beside it. Raises FileNotFoundError naming
    both places where it is in neither.
    """
    places = (_PACKAGE / name, _PACKAGE.parent / name)
    for place in places:
        if place.is_dir():
            return place
    tried = " or ".join(str(place) for place in places)
    raise FileNotFoundError(f"{name} is missing from this installation: looked in {tried}")

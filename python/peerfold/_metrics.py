"""Figures as an update has them: few of them, with short names. What frameworks log has more, and longer ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from ._errors import MetricsError
from ._events import log

#: Figures that an update has at most.
MAX_METRICS = 16
#: Bytes that the name of one has at most.
MAX_NAME = 24
#: Hexadecimal digits of a name's digest in its short form.
_DIGITS = 8

_told: set[str] = set()


def numbers(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """Those of them that are numbers. NumPy's and tensors of one element are, and texts aren't."""
    found = {}
    for name, value in (metrics or {}).items():
        if isinstance(value, (str, bytes)):
            continue
        try:
            found[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError):
            continue
    return found


def checked(metrics: Mapping[str, Any] | None) -> dict[str, float]:
    """All of them. Raises `MetricsError` for one that is no number."""
    if metrics is not None and not isinstance(metrics, Mapping):
        raise MetricsError(f"metrics are a dict of names to numbers, not {type(metrics).__name__}")
    figures = {}
    for name, value in (metrics or {}).items():
        try:
            figures[str(name)] = float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise MetricsError(f"the metric {name!r} is no number: {value!r}") from error
    return figures


def short(name: str) -> str:
    """The name in an update: itself, if it isn't too long, else its beginning and a digest, equal on all nodes."""
    data = name.encode(errors="replace")
    if len(data) <= MAX_NAME:
        return data.decode()
    digest = hashlib.sha256(data).hexdigest()[:_DIGITS]
    return data[: MAX_NAME - _DIGITS - 1].decode(errors="ignore") + "~" + digest


def publishable(metrics: Mapping[str, Any] | None, first: Iterable[str] = ("loss",)) -> dict[str, float]:
    """As an update can have them, by their short names: those in `first`, then the others, as many as there may be.

    What is no number, or too much, is left out; the latter is told once.
    """
    found = numbers(metrics)
    ordered = [name for name in first if name in found]
    ordered += [name for name in found if name not in ordered]
    if left := [name for name in ordered[MAX_METRICS:] if name not in _told]:
        _told.update(left)
        log.warning("an update has %d metrics at most: %s aren't shared", MAX_METRICS, ", ".join(left))
    return {short(name): found[name] for name in ordered[:MAX_METRICS]}


def by_short(metrics: Iterable[str]) -> dict[str, str]:
    """Names by their short forms, where these are others."""
    return {short(name): name for name in metrics if short(name) != name}

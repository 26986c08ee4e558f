"""What folders have in common: they keep values by key, and are where nodes put their updates."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import numpy as np

import peerfold

_BYTES, _JSON, _ARRAY = b"b", b"j", b"n"


class SharedFolder:
    """Values by key. What nodes publish isn't among them: it is in Peerfold's own folder beside."""

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, or the default if there is none. Waits for nobody: what is there is whole."""
        raise NotImplementedError

    def __getitem__(self, key: str) -> Any:
        """The value under a key; `None` if there is none."""
        return self.get(key)

    def __setitem__(self, key: str, value: Any) -> None:
        """Puts a value under a key."""
        raise NotImplementedError

    def __delitem__(self, key: str) -> None:
        """Removes a key, if it is there."""
        raise NotImplementedError

    def __len__(self) -> int:
        """How many keys there are."""
        return sum(1 for _ in self.items())

    def __bool__(self) -> bool:
        """A folder is there, even if nothing is in it."""
        return True

    def items(self) -> Iterator[tuple[str, Any]]:
        """Keys with their values."""
        raise NotImplementedError

    def get_raw_folder(self) -> SharedFolder:
        """The same place for bytes alone."""
        raise NotImplementedError

    def peerfold_folder(self) -> peerfold.SharedFolder:
        """Where nodes put their updates."""
        raise NotImplementedError


def encode(value: Any) -> bytes:
    """A value as bytes: bytes, an array, or what JSON has. Never pickled.

    Raises `TypeError` for anything else.
    """
    if value is None:
        raise ValueError("value must not be None")
    if isinstance(value, bytes):
        return _BYTES + value
    if isinstance(value, np.ndarray) and value.dtype != object:
        out = io.BytesIO()
        np.save(out, value, allow_pickle=False)
        return _ARRAY + out.getvalue()
    try:
        return _JSON + json.dumps(value).encode()
    except (TypeError, ValueError) as error:
        raise TypeError(f"a folder keeps bytes, arrays, and what JSON has: {error}") from error


def decode(data: bytes) -> Any:
    """What `encode` was given. Raises `ValueError` for bytes that it didn't write."""
    kind, rest = data[:1], data[1:]
    if kind == _BYTES:
        return rest
    if kind == _ARRAY:
        return np.load(io.BytesIO(rest), allow_pickle=False)
    if kind == _JSON:
        return json.loads(rest)
    raise ValueError("this is no value that such a folder has written; what flwr-serverless has pickled isn't read")


def checked(value: Any) -> bytes:
    """A value of a raw folder, which must be bytes."""
    if value is None:
        raise ValueError("value must not be None")
    if not isinstance(value, bytes):
        raise AssertionError(f"value must be bytes, but got {type(value)}")
    return value

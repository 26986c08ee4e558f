"""A folder in this process's memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import peerfold

from .base_folder import SharedFolder


class InMemoryFolder(SharedFolder):
    """Keeps any object as it is, for nodes of this process."""

    def __init__(self) -> None:
        """An empty folder."""
        self.model_store: dict[str, Any] = {}
        self._folder = peerfold.InMemoryFolder()

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, or the default."""
        return self.model_store.get(key, default)

    def __getitem__(self, key: str) -> Any:
        """The value under a key. Raises `KeyError` if there is none."""
        return self.model_store[key]

    def __setitem__(self, key: str, value: Any) -> None:
        """Puts a value under a key."""
        self.model_store[key] = value

    def __delitem__(self, key: str) -> None:
        """Removes a key, if it is there."""
        self.model_store.pop(key, None)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Keys with their values."""
        return iter(list(self.model_store.items()))

    def get_raw_folder(self) -> InMemoryFolder:
        """The folder itself."""
        return self

    def peerfold_folder(self) -> peerfold.InMemoryFolder:
        """Where nodes put their updates."""
        return self._folder

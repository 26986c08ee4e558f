"""A folder in a directory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any

import peerfold

from .base_folder import SharedFolder, checked, decode, encode

#: Where nodes put their updates, in the directory.
_UPDATES = ".peerfold"


class LocalFolderWithBytes(SharedFolder):
    """Bytes by key: each a file of that name. A key may have slashes in it, and none leads out of the directory."""

    suffix = ""

    def __init__(
        self, directory: str | PathLike[str] | None = None, retry_sleep_time: float = 3, max_retry: int = 3
    ) -> None:
        """A folder in this directory, which is made if it isn't there. Nothing is retried: what is there is whole."""
        if directory is None:
            raise TypeError("a LocalFolder needs a directory")
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.retry_sleep_time = retry_sleep_time
        self.max_retry = max_retry

    def _path(self, key: str) -> Path:
        parts = key.split("/")
        if not all(parts) or any(part in (".", "..", _UPDATES) or "\\" in part or "\0" in part for part in parts):
            raise ValueError(f"{key!r} can't be a key: it is a path below the folder")
        return self.directory.joinpath(*parts[:-1], parts[-1] + self.suffix)

    def _encode(self, value: Any) -> bytes:
        return checked(value)

    def _decode(self, data: bytes) -> Any:
        return data

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, or the default."""
        try:
            return self._decode(self._path(key).read_bytes())
        except FileNotFoundError:
            return default

    def __setitem__(self, key: str, value: Any) -> None:
        """Puts a value under a key, whole or not at all."""
        path, data = self._path(key), self._encode(value)
        path.parent.mkdir(parents=True, exist_ok=True)
        written, temporary = tempfile.mkstemp(dir=path.parent, prefix=".partial-")
        try:
            with os.fdopen(written, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def __delitem__(self, key: str) -> None:
        """Removes a key, if it is there."""
        self._path(key).unlink(missing_ok=True)

    def items(self) -> Iterator[tuple[str, Any]]:
        """Keys with their values, in order of keys."""
        for path in sorted(self.directory.rglob(f"*{self.suffix}")):
            parts = path.relative_to(self.directory).parts
            if parts[0] == _UPDATES or parts[-1].startswith(".partial-") or not path.is_file():
                continue
            key = "/".join(parts).removesuffix(self.suffix)
            value = self.get(key)
            if value is not None:
                yield key, value

    def get_raw_folder(self) -> LocalFolderWithBytes:
        """The folder itself."""
        return self

    def peerfold_folder(self) -> peerfold.LocalFolder:
        """Where nodes put their updates."""
        return peerfold.LocalFolder(self.directory / _UPDATES)


class LocalFolder(LocalFolderWithBytes):
    """Values by key: bytes, arrays, and what JSON has."""

    suffix = ".value"

    def _encode(self, value: Any) -> bytes:
        return encode(value)

    def _decode(self, data: bytes) -> Any:
        return decode(data)

    def get_raw_folder(self) -> LocalFolderWithBytes:
        """The same directory for bytes alone."""
        return LocalFolderWithBytes(self.directory, self.retry_sleep_time, self.max_retry)

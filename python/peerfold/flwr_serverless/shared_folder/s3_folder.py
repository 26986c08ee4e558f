"""A folder in a bucket. Values by key need boto3; nodes' updates don't."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from typing import Any

import peerfold

from .base_folder import SharedFolder, checked, decode, encode

LOGGER = logging.getLogger("peerfold.flwr_serverless")


class S3FolderWithBytes(SharedFolder):
    """Bytes by key: each an object under the prefix. Another prefix that begins alike has nothing to do with it."""

    suffix = ""

    def __init__(
        self,
        directory: str | None = None,
        retry_sleep_time: float = 3,
        max_retry: int = 3,
        check_at_init: bool = True,
    ) -> None:
        """A folder at `bucket/prefix`, or `s3://bucket/prefix`.

        Args:
            directory: Where it is.
            retry_sleep_time: Not needed here: an object is whole or not there.
            max_retry: Not needed here.
            check_at_init: Write, read and remove an object now, to find out whether that works.
        """
        if directory is None:
            raise TypeError("an S3Folder needs a directory: bucket/prefix")
        self.directory = directory
        self.bucket, _, prefix = directory.removeprefix("s3://").partition("/")
        self.prefix = prefix.rstrip("/") or None
        self.retry_sleep_time = retry_sleep_time
        self.max_retry = max_retry
        try:
            import boto3
        except ModuleNotFoundError:
            LOGGER.warning(
                "boto3 isn't installed: nodes can use the folder, but models and metrics can't be kept in it"
            )
            return
        self.s3 = boto3.client("s3")
        if check_at_init:
            self._check()

    def __getattr__(self, name: str) -> Any:
        """Only `s3`, where there is no boto3."""
        if name == "s3":
            raise ModuleNotFoundError("values by key in a bucket need boto3: pip install boto3")
        raise AttributeError(name)

    def _check(self) -> None:
        key = f"dummy_{time.time_ns()}"
        self[key] = b"dummy"
        if self[key] != b"dummy":
            raise OSError(f"what is written to {self.directory} can't be read back")
        del self[key]

    def _object(self, key: str) -> str:
        return f"{self.prefix}/{key}{self.suffix}" if self.prefix else key + self.suffix

    def _encode(self, value: Any) -> bytes:
        return checked(value)

    def _decode(self, data: bytes) -> Any:
        return data

    def get(self, key: str, default: Any = None) -> Any:
        """The value under a key, or the default."""
        try:
            found = self.s3.get_object(Bucket=self.bucket, Key=self._object(key))
        except self.s3.exceptions.NoSuchKey:
            return default
        return self._decode(found["Body"].read())

    def __setitem__(self, key: str, value: Any) -> None:
        """Puts a value under a key."""
        self.s3.put_object(Bucket=self.bucket, Key=self._object(key), Body=self._encode(value))

    def __delitem__(self, key: str) -> None:
        """Removes a key, if it is there."""
        self.s3.delete_object(Bucket=self.bucket, Key=self._object(key))

    def items(self) -> Iterator[tuple[str, Any]]:
        """Keys with their values, in order of keys."""
        within = f"{self.prefix}/" if self.prefix else ""
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=within)
        for page in pages:
            for listed in page.get("Contents", []):
                name = listed["Key"][len(within) :]
                if not name.endswith(self.suffix) or name.startswith(f"{_UPDATES}/"):
                    continue
                key = name.removesuffix(self.suffix)
                value = self.get(key)
                if value is not None:
                    yield key, value

    def get_raw_folder(self) -> S3FolderWithBytes:
        """The folder itself."""
        return self

    def peerfold_folder(self) -> peerfold.S3Folder:
        """Where nodes put their updates."""
        # boto3 takes a store of one's own without TLS, too.
        endpoints = [os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")]
        plain = next(filter(None, endpoints), "").startswith("http://")
        place = "/".join(filter(None, [self.bucket, self.prefix, _UPDATES]))
        return peerfold.S3Folder(place, s3_allow_http=plain)


#: Where nodes put their updates, under the prefix.
_UPDATES = "peerfold-updates"


class S3FolderWithPickle(S3FolderWithBytes):
    """Values by key: bytes, arrays, and what JSON has. Only the name is flwr-serverless's: nothing is pickled."""

    suffix = ".value"

    def _check(self) -> None:
        key = f"dummy_{time.time_ns()}"
        self[key] = "dummy"
        if self[key] != "dummy":
            raise OSError(f"what is written to {self.directory} can't be read back")
        del self[key]

    def _encode(self, value: Any) -> bytes:
        return encode(value)

    def _decode(self, data: bytes) -> Any:
        return decode(data)

    def get_raw_folder(self) -> S3FolderWithBytes:
        """The same place for bytes alone."""
        return S3FolderWithBytes(self.directory, self.retry_sleep_time, self.max_retry, check_at_init=False)

"""Shared folders: where nodes put their updates and find the others'. One may be given to several nodes."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _native
from ._errors import SettingError
from ._options import NAMES

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._options import BucketOptions, NetworkOptions

#: The federation of a folder that is one place, if it isn't named.
DEFAULT_FEDERATION = "default"


def check_options(kind: str, taker: str, options: dict[str, Any]) -> None:
    """Raises `TypeError` for an option that there isn't, and says what was probably meant."""
    from difflib import get_close_matches

    for name in options:
        if name not in NAMES[kind]:
            close = get_close_matches(name, NAMES[kind], n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise TypeError(f"{taker} has no option {name!r}{meant}")


#: What a node says of anything else that it is given as a folder.
KINDS = (
    "give a P2PFolder, S3Folder, LocalFolder or InMemoryFolder (a folder of a class of your own can't be used: nodes "
    "read and write their folder themselves, without Python)"
)


class SharedFolder:
    """What folders have in common. Use one of its kinds; none of your own can be made."""

    url: str
    federation: str
    run: str

    def __init__(self, url: str, federation: str, run: str, options: dict[str, Any]) -> None:
        """A folder; nothing is opened before a node begins."""
        for name, text in (("federation", federation), ("run", run)):
            if not isinstance(text, str) or not text:
                raise SettingError(f"{name} = {text!r}: give a name, a text that isn't empty")
        self.url, self.federation, self.run = url, federation, run
        self._options = options
        self._memory: _native.Memory | None = None
        self._keys: tuple[str, str] | None = None

    def _of_run(self, run: str) -> SharedFolder:
        """The same place for another run."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, run=run)
        return other

    def __repr__(self) -> str:
        """Which folder it is."""
        return f"peerfold.{type(self).__name__}({self.url!r}, federation={self.federation!r})"


class P2PFolder(SharedFolder):
    """The federation's own network: nodes find each other and exchange weights directly, over TCP and QUIC.

    Whoever knows the federation's name can join it, unless a `secret` is given, or nodes `allow` only some.
    """

    def __init__(
        self,
        federation: str,
        bootstrap: Sequence[str | PathLike[str]] | str | PathLike[str] = (),
        *,
        run: str = "1",
        **options: Unpack[NetworkOptions],
    ) -> None:
        """The network of this federation.

        Args:
            federation: Its name, the same on all nodes.
            bootstrap: Where to find others at first: multiaddrs of bootstrap nodes or peers that end in `/p2p/…`, or
                files with lists of them. On one local network nodes find each other without.
            run: The run's label; another label is another federation.
            options: See `NetworkOptions`.
        """
        check_options("network", "P2PFolder", dict(options))
        several = [bootstrap] if isinstance(bootstrap, (str, PathLike)) else list(bootstrap)
        super().__init__("p2p:", federation, run, {**options, "bootstrap": several or None})


class S3Folder(SharedFolder):
    """A prefix in an S3 bucket. Credentials are found as AWS has them: variables, profiles, the machine's role."""

    def __init__(
        self,
        place: str,
        *,
        federation: str = DEFAULT_FEDERATION,
        run: str = "1",
        endpoint_url: str | None = None,
        access_key_id: str | None = None,
        secret_access_key: str | None = None,
        **options: Unpack[BucketOptions],
    ) -> None:
        """A folder in a bucket.

        Args:
            place: `bucket/prefix`, or `s3://bucket/prefix`.
            federation: The federation's name: several may share a prefix.
            run: The run's label; another label is another federation.
            endpoint_url: The store's server, for stores other than AWS; a plain `http://` needs `s3_allow_http=True`.
            access_key_id: A key, instead of what is found as AWS users have it; together with `secret_access_key`.
            secret_access_key: Its secret.
            options: See `BucketOptions`.
        """
        check_options("bucket", "S3Folder", dict(options))
        if (access_key_id is None) != (secret_access_key is None):
            raise SettingError("access_key_id and secret_access_key are given together")
        url = place if place.startswith("s3://") else f"s3://{place}"
        super().__init__(url, federation, run, {"s3_endpoint": endpoint_url, **options})
        if access_key_id is not None and secret_access_key is not None:
            self._keys = access_key_id, secret_access_key


class LocalFolder(SharedFolder):
    """A directory that all nodes have: on one machine, or on a network share."""

    def __init__(self, directory: str | PathLike[str], *, federation: str = DEFAULT_FEDERATION, run: str = "1") -> None:
        """A folder in this directory, which is made if it isn't there.

        Args:
            directory: Its path.
            federation: The federation's name: several may share a directory.
            run: The run's label; another label is another federation.
        """
        from urllib.parse import quote

        if not fspath(directory):
            raise SettingError("directory = '': give a path")
        self.directory = Path(fspath(directory)).absolute()
        super().__init__(f"file://{quote(str(self.directory))}", federation, run, {})


class InMemoryFolder(SharedFolder):
    """This process's memory: for tests, and for several nodes in threads. Give all of them the same object."""

    def __init__(self, *, federation: str = DEFAULT_FEDERATION, run: str = "1") -> None:
        """An empty folder."""
        super().__init__("memory:", federation, run, {})
        self._memory = _native.Memory()

    def __reduce__(self) -> tuple[Any, ...]:
        """Refused. Raises `TypeError`."""
        raise TypeError(
            "an InMemoryFolder can't be copied or pickled: it is one process's memory; processes share a LocalFolder"
        )

"""Nodes: a training loop that shares its weights and goes on with what all have learned."""

from __future__ import annotations

import asyncio
import atexit
import operator
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike, fspath
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from . import _arrays, _metrics, _native
from ._arrays import Arrays, Weights
from ._errors import HomeError, SettingError, Stopped, UsageError, WeightsError
from ._events import EventCallback, Teller, follow_logs, log
from ._folders import KINDS, InMemoryFolder, SharedFolder, check_options
from ._strategy import Rule, rule_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._options import AsyncOptions, SyncOptions

#: What a training program keeps besides its weights: bytes, or arrays by name. It comes back after a crash.
State = bytes | Mapping[str, Any]

T = TypeVar("T")

#: For how long the end of the interpreter waits for a node.
_AT_EXIT = 5.0

#: How often a coroutine that waits lets its loop look up, in seconds.
_LOOKS_UP = 0.25

_nodes: weakref.WeakSet[FederatedNode] = weakref.WeakSet()


@atexit.register
def _end() -> None:
    """Stops all nodes when the interpreter ends: afterwards none of their threads may call it."""
    for node in list(_nodes):
        if not node.close(_AT_EXIT) and isinstance(node._rule, Rule):
            node._rule.interrupt()
            node.close(_AT_EXIT)


@dataclass(frozen=True)
class Middle:
    """The middle of an epoch, as `save_progress` has saved it in an earlier life."""

    step: int  #: Steps done.
    weights: Arrays  #: The weights after them.
    state: bytes | Arrays | None  #: The program's state at that point.


def _state_given(state: State | None) -> bytes | list[_native.Tensor] | None:
    if state is None or isinstance(state, bytes):
        return state
    return _arrays.tensors(state, "a state is bytes or")


def _state_came(state: _native.SavedState) -> bytes | Arrays | None:
    return _arrays.arrays(state[0]) if isinstance(state, tuple) else state


def _whole(number: Any) -> int | None:
    """A whole number of Python's or NumPy's that the native half can have; `None` if it isn't one."""
    try:
        whole = operator.index(number)
    except TypeError:
        return None
    return None if isinstance(number, bool) or not 0 <= whole < 2**64 else whole


def _remove(home: str, process: int) -> None:
    """Removes a home that was made for one life, in the process that made it."""
    if os.getpid() == process:
        shutil.rmtree(home, ignore_errors=True)


def _is_same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


class FederatedNode:
    """What asynchronous and synchronous nodes have in common. Use one of them.

    A node does one thing at a time. While a call waits, or folds, hashes and sends, the GIL is released. Ctrl-C works
    in the middle of it: a stop is requested, `KeyboardInterrupt` is raised, and what is complete is published and
    saved. If the process is killed, a node made anew in the same home goes on where it was.

    A node isn't copied by `fork`: in a child it raises `ForkError`.
    """

    def __init__(
        self,
        folder: SharedFolder,
        strategy: object,
        *,
        home: str | PathLike[str] | None,
        on_event: EventCallback | None,
        filter: Callable[[str], bool] | Iterable[str] | None,
        seed: int,
        hyperparameters: Mapping[str, object] | None,
        distinct: Mapping[str, object] | None,
        recipe: Mapping[str, object] | None,
        num_nodes: int | None,
        options: dict[str, Any],
    ) -> None:
        """See the kinds of it."""
        if not isinstance(folder, SharedFolder) or not hasattr(folder, "url"):
            what = type(folder).__name__ if isinstance(folder, SharedFolder) else repr(folder)
            raise TypeError(f"{what} is no shared folder: {KINDS}")
        if on_event is not None and not callable(on_event):
            raise TypeError(f"on_event = {on_event!r}: give a function, which is called with each event")
        if (whole := _whole(seed)) is None:
            raise SettingError(f"seed = {seed!r}: give a whole number from 0")
        described = {"hyperparameters": hyperparameters, "distinct": distinct, "recipe": recipe}
        for name, given in described.items():
            if given is not None and not isinstance(given, Mapping):
                raise SettingError(f"{name} = {given!r}: give a dict")
        self._folder = folder
        self._shared = _arrays.keeper(filter)
        rule = rule_of(strategy)
        self._rule: object = rule[1]
        self._remove_home: weakref.finalize[..., FederatedNode] | None = None
        if home is None:
            self.home = tempfile.mkdtemp(prefix="peerfold-home-")
            self._remove_home = weakref.finalize(self, _remove, self.home, os.getpid())
            # `_end` closes the node before, and no child of `fork` removes what is its parent's.
            self._remove_home.atexit = False
            if not isinstance(folder, InMemoryFolder):
                log.warning("the node has no home=DIR: it can't go on after a crash, and is somebody else next time")
        else:
            self.home = fspath(home)
        texts = [{str(key): str(value) for key, value in (named or {}).items()} for named in described.values()]
        making = SimpleNamespace(
            folder=folder.url,
            memory=folder._memory,
            federation=folder.federation,
            run=folder.run,
            home=self.home,
            rule=rule,
            num_nodes=num_nodes,
            seed=whole,
            keys=folder._keys,
            hyperparameters=texts[0],
            distinct=texts[1],
            recipe=texts[2],
        )
        follow_logs()
        self._native = _native.Node(making, {**folder._options, **options})
        self._state: bytes | Arrays | None = None
        self._origin: str | None = None
        self._layout: Arrays = {}
        self._closing = threading.Lock()
        self._teller = Teller(self._native.events, on_event)
        self._teller.start()
        _nodes.add(self)

    # The life of a node.

    def begin(self, weights: Weights, state: State | None = None, *, copy: bool = True) -> Arrays:
        """Begins, and gives the weights to train on from.

        These are the checkpoint's, if the home has one of this federation; else a fold of what peers have published;
        else `weights`, which therefore should be the same on all nodes.

        Args:
            weights: The model's weights: names to arrays. Names, shapes and dtypes are the same on all nodes.
            state: What the program wants back besides the weights if it is killed before its first epoch ends.
            copy: Give arrays that may be written to; `False` gives read-only ones and saves a copy.

        Waits for `min_peers`, and in a synchronous federation for the others. `state` and `epoch` tell afterwards what
        was saved. Raises `CheckpointError` if the home's checkpoint is of another model or strategy, `HomeError` if
        another process has the home, `FolderError` if the folder can't be used, `Stopped` if a stop was requested.
        """
        shared, _ = self._split(weights)
        given, kept = _arrays.tensors(shared), _state_given(state)
        if wrong := _arrays.not_finite(given):
            log.warning(
                "%s has numbers that aren't finite: updates with such are refused; filter=… says what is shared", wrong
            )
        came, _, origin, saved = self._at_home(lambda: self._native.begin(given, kept))
        self._origin, self._state = origin, _state_came(saved)
        return self._joined(came, weights, copy)

    def epochs(self, last: int) -> Iterator[int]:
        """The epochs to train, each to be ended by `update`: those from where the node is to `last`.

        Numbers may be left out: a node that was behind goes on at the others' epoch. Ends early if a stop is requested.
        """
        last = self._count(last, "number of an epoch")
        while (epoch := self._native.next_epoch(last)) is not None:
            yield epoch
            if self._native.epoch() < epoch and not self._native.is_stopped():
                raise UsageError(f"epoch {epoch} was not ended: call update(weights, …) in the loop's body")

    def update(
        self,
        weights: Weights,
        num_examples: int,
        metrics: Mapping[str, Any] | None = None,
        state: State | None = None,
        *,
        copy: bool = True,
    ) -> Arrays:
        """The end of an epoch: publishes these weights, folds the peers' newest, and gives those to train on from.

        A node that has not begun begins with these weights, as if `begin` had been called with them before.

        Args:
            weights: The trained weights, of the same names, shapes and dtypes as ever. They are copied, so that the
                program may go on changing them; arrays that the node has given with `copy=False` are not.
            num_examples: Examples that the epoch was trained on: how much it counts in a mean.
            metrics: Figures that peers may see. Some strategies need the training `loss`.
            state: What the program wants back besides the weights after a crash: optimizer, counters.
            copy: Give arrays that may be written to; `False` gives read-only ones and saves a copy.

        Raises `WeightsError` if the weights have another layout or aren't finite; then nothing is published or saved,
        and the epoch can be trained again. Raises `Stopped` if a stop was requested before or while it waited: what is
        trained is saved. A folder that fails is no error of an asynchronous node: it trains on, and tries again.
        After a crash at any moment the epoch was either ended or is trained again, and never published twice.
        """
        count = self._count(num_examples)
        figures, saved = _metrics.checked(metrics), _state_given(state)
        if not self._begun():
            self._begin_with(weights)
        shared, _ = self._split(weights)
        completed = self._native.update(_arrays.tensors(shared), count, figures, saved)
        if completed is None:
            raise Stopped("stopped on request while the node waited; the update is published and saved")
        return self._joined(completed[0], weights, copy)

    def evaluated(self, metrics: Mapping[str, Any]) -> None:
        """Says how good the weights are after the fold: figures for the event `epoch_done`. At most once an epoch."""
        self._native.evaluated(_metrics.checked(metrics))

    def save_progress(self, weights: Weights, step: int, state: State | None = None) -> None:
        """Saves the middle of the epoch under way, after so many of its steps; `middle` gives it back after a crash."""
        shared, _ = self._split(weights)
        self._native.save_progress(_arrays.tensors(shared), self._count(step), _state_given(state))

    def middle(self) -> Middle | None:
        """What was saved in the middle of the epoch that `epochs` has just given, if anything; once.

        `None` too if it was saved by another `recipe`: then the event `progress_dropped` says what has changed.
        """
        came = self._native.take_up()
        if came is None:
            return None
        step, weights, state = came
        return Middle(step, self._joined(weights, self._layout, True), _state_came(state))

    def finish(self) -> None:
        """The end of the run: waits, `linger` seconds at most, until peers have the newest update, and closes the node.

        Raises `FolderError` if the folder hasn't taken the newest update; it is in the home, and the next life tries.
        """
        try:
            if self._begun():
                self._native.finish()
        finally:
            self.close()

    def stay(self) -> None:
        """Answers peers until a stop is requested, of another thread or by Ctrl-C. Call it instead of `finish`."""
        self._native.finish()
        self._native.stay()

    def stop(self) -> None:
        """Requests a stop, from any thread: whatever waits for peers ends, and `epochs` gives no more."""
        self._native.stop()

    def close(self, seconds: float = 60.0) -> bool:
        """Leaves the federation and makes the home free; what is complete is saved. May be called twice.

        Waits so many seconds, 120 at most, for what is under way. `False` if that hasn't ended by then.
        """
        with self._closing:
            if not self._native.close(seconds):
                log.warning("the node is still busy with its last call after %s s, and ends when that does", seconds)
                return False
            if self._teller.is_alive() and self._teller is not threading.current_thread():
                self._teller.join(seconds)
            if self._remove_home is not None:
                self._remove_home()
            _nodes.discard(self)
            return True

    def __enter__(self) -> Self:
        """The node itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        """Finishes; after an exception only closes."""
        if kind is None and not self._native.is_stopped():
            self.finish()
        else:
            self.close()

    # The same for programs with an event loop.

    async def begin_async(self, weights: Weights, state: State | None = None, *, copy: bool = True) -> Arrays:
        """`begin` without blocking the event loop. Cancelling it requests a stop."""
        return await self._off_loop(lambda: self.begin(weights, state, copy=copy))

    async def update_async(
        self,
        weights: Weights,
        num_examples: int,
        metrics: Mapping[str, Any] | None = None,
        state: State | None = None,
        *,
        copy: bool = True,
    ) -> Arrays:
        """`update` without blocking the event loop. Cancelling it requests a stop; the epoch may have ended by then."""
        return await self._off_loop(lambda: self.update(weights, num_examples, metrics, state, copy=copy))

    async def finish_async(self) -> None:
        """`finish` without blocking the event loop. Cancelling it requests a stop."""
        await self._off_loop(self.finish)

    async def _off_loop(self, call: Callable[[], T]) -> T:
        future = asyncio.get_running_loop().run_in_executor(None, call)
        try:
            while not future.done():
                # Looks up now and then: the handler of a signal, such as Jupyter's for an interrupt, may have left the
                # loop something to do without waking it.
                await asyncio.wait([future], timeout=_LOOKS_UP)
            return future.result()
        except asyncio.CancelledError:
            self.stop()
            await asyncio.wait([future])
            if not future.cancelled():
                # What it says of the stop is of no use to who has cancelled it.
                future.exception()
            raise

    # What is known of it.

    @property
    def peer_id(self) -> str:
        """This node's name among its peers. Opens the home, and raises `HomeError` if that can't be."""
        return self._at_home(self._native.peer_id)

    @property
    def epoch(self) -> int:
        """The last complete epoch; 0 for a new federation. Needs `begin`."""
        return self._native.epoch()

    @property
    def state(self) -> bytes | Arrays | None:
        """The state that the checkpoint had at `begin`: what was given to the last complete epoch's `update`."""
        return self._state

    @property
    def origin(self) -> str | None:
        """Where the first weights came from: `seed` (the program), `fold`, `checkpoint`; `None` before `begin`."""
        return self._origin

    @property
    def is_stopped(self) -> bool:
        """Whether a stop was requested."""
        return self._native.is_stopped()

    def weights(self) -> Arrays:
        """The weights that the last complete epoch has left: the shared ones."""
        return _arrays.arrays(self._native.weights(), self._layout)

    def __repr__(self) -> str:
        """Which node it is."""
        return f"peerfold.{type(self).__name__}({self._folder!r}, home={self.home!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Refused. Raises `TypeError`."""
        raise TypeError("a node can't be copied or pickled: make it in the process that uses it")

    # Inside.

    def _begun(self) -> bool:
        return self._origin is not None

    def _begin_with(self, weights: Weights) -> None:
        self.begin(weights, copy=False)
        if self._origin == "checkpoint":
            epoch = self.epoch
            self._origin = None
            self.close()
            raise UsageError(
                f"the home {self.home} goes on from epoch {epoch}, which these weights don't come from: call "
                "begin(weights) before training, and train on from what it gives"
            )

    def _at_home(self, call: Callable[[], T]) -> T:
        """Does what needs the home, which another node of this very process may have.

        In a notebook one that was interrupted does, as the exception refers to it: it is closed. One that isn't stopped
        keeps its home.
        """
        try:
            return call()
        except HomeError:
            others = [node for node in list(_nodes) if node is not self and _is_same(node.home, self.home)]
            if not others:
                raise
        if all(other.is_stopped and other.close() for other in others):
            return call()
        what = f"the home {self.home} is in use by another node of this process"
        then = "close() that one (or restart the notebook's kernel), or give this node another home"
        raise HomeError(f"{what}: {then}")

    @staticmethod
    def _count(number: Any, what: str = "count") -> int:
        whole = _whole(number)
        if whole is None:
            raise UsageError(f"{number!r} is no {what}: give a whole number from 0")
        return whole

    def _split(self, weights: Weights) -> tuple[Weights, Weights]:
        """What is shared, and what stays."""
        _arrays.check(weights)
        shared = {name: value for name, value in weights.items() if self._shared(str(name))}
        if not shared:
            raise WeightsError("there is nothing to share: the dict is empty, or the filter keeps no name")
        self._layout = dict.fromkeys(shared) if not self._layout else self._layout
        return shared, {name: value for name, value in weights.items() if name not in shared}

    def _joined(self, came: list[_native.Tensor], given: Weights, copy: bool) -> Arrays:
        """What has come, and what has stayed, in the order in which the program has them."""
        arrays = _arrays.arrays(came, given, copy)
        return {name: arrays.get(name, value) for name, value in given.items()} if given else arrays


class AsyncFederatedNode(FederatedNode):
    """A node that never waits: it publishes, folds what its peers have now, and goes on."""

    def __init__(
        self,
        shared_folder: SharedFolder,
        strategy: object = None,
        *,
        home: str | PathLike[str] | None = None,
        on_event: EventCallback | None = None,
        filter: Callable[[str], bool] | Iterable[str] | None = None,
        seed: int = 0,
        hyperparameters: Mapping[str, object] | None = None,
        distinct: Mapping[str, object] | None = None,
        recipe: Mapping[str, object] | None = None,
        **options: Unpack[AsyncOptions],
    ) -> None:
        """A node that has not begun.

        Args:
            shared_folder: Where updates are put and found.
            strategy: By what to fold: `peerfold.FedAvg()` or another rule, its name, a `flwr.server.strategy.Strategy`,
                or a function of the updates. FedAvg if it isn't given.
            home: The node's own directory, with its identity and checkpoints; made if it isn't there. Without one the
                node has a temporary one, and can't go on after a crash.
            on_event: Called with each `Event`, on a thread of the package's own.
            filter: Which tensors are shared: a function of the name, or patterns. The others stay as they are.
            seed: Of what the node draws: participation, and the sample of `max_peers`.
            hyperparameters: What should be the same on all nodes, by name; a peer that differs is told as an event.
            distinct: What should differ between nodes, such as their part of the data; likewise.
            recipe: What decides an epoch besides its first weights: a `middle` of another recipe is dropped.
            options: See `AsyncOptions`.

        Raises `SettingError`, `StrategyError` or `TypeError` for what can't be.
        """
        check_options("async", "AsyncFederatedNode", dict(options))
        super().__init__(
            shared_folder,
            strategy,
            home=home,
            on_event=on_event,
            filter=filter,
            seed=seed,
            hyperparameters=hyperparameters,
            distinct=distinct,
            recipe=recipe,
            num_nodes=None,
            options=dict(options),
        )


class SyncFederatedNode(FederatedNode):
    """A node that goes epoch by epoch, together with its peers: with all of them there, all hold equal bits."""

    def __init__(
        self,
        shared_folder: SharedFolder,
        strategy: object = None,
        num_nodes: int | None = None,
        *,
        home: str | PathLike[str] | None = None,
        on_event: EventCallback | None = None,
        filter: Callable[[str], bool] | Iterable[str] | None = None,
        seed: int = 0,
        hyperparameters: Mapping[str, object] | None = None,
        distinct: Mapping[str, object] | None = None,
        recipe: Mapping[str, object] | None = None,
        **options: Unpack[SyncOptions],
    ) -> None:
        """A node that has not begun.

        Args:
            shared_folder: Where updates are put and found.
            strategy: As of an `AsyncFederatedNode`.
            num_nodes: Nodes of the federation, this one included.
            home: As of an `AsyncFederatedNode`.
            on_event: As of an `AsyncFederatedNode`.
            filter: As of an `AsyncFederatedNode`.
            seed: As of an `AsyncFederatedNode`.
            hyperparameters: As of an `AsyncFederatedNode`.
            distinct: As of an `AsyncFederatedNode`.
            recipe: As of an `AsyncFederatedNode`.
            options: See `SyncOptions`. A node waits for `deadline` seconds for all others, and then goes on with a
                `quorum`; `below_quorum` says what if there is none.

        Raises `SettingError`, `StrategyError` or `TypeError` for what can't be.
        """
        if num_nodes is None:
            raise TypeError("a SyncFederatedNode needs num_nodes: how many nodes the federation has, this one included")
        if not _whole(num_nodes):
            raise UsageError(f"num_nodes = {num_nodes!r}: give a whole number from 1")
        check_options("sync", "SyncFederatedNode", dict(options))
        super().__init__(
            shared_folder,
            strategy,
            home=home,
            on_event=on_event,
            filter=filter,
            seed=seed,
            hyperparameters=hyperparameters,
            distinct=distinct,
            recipe=recipe,
            num_nodes=_whole(num_nodes),
            options=dict(options),
        )


__all__ = ["AsyncFederatedNode", "FederatedNode", "Middle", "State", "SyncFederatedNode"]

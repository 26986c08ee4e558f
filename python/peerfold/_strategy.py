"""Strategies: the rules by which nodes fold. The built-in ones are in `_strategies`, made from Rust's registry."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from . import _arrays, _native
from ._errors import Stopped, StrategyError

if TYPE_CHECKING:
    from ._native import Tensor

_log = logging.getLogger("peerfold")


class Strategy:
    """A rule of Peerfold's own, by its name, with parameters.

    `FedAvg()` and its like are kinds of it; `Strategy("fedavg")` is the same rule. A parameter that is `None` has its
    default. Raises `StrategyError` if there is no such rule, or it can't have such a parameter.
    """

    name: str

    def __init__(self, name: str, **parameters: float | str | Sequence[str] | None) -> None:
        """The rule of this name, in any case, with these parameters."""
        self.name = name
        self.parameters = {key: _text(value) for key, value in parameters.items() if value is not None}
        _native.check_strategy(self.name, self.parameters)

    def __repr__(self) -> str:
        """As it is written."""
        parameters = ", ".join(f"{key}={value!r}" for key, value in self.parameters.items())
        return f"peerfold.{type(self).__name__}({parameters})"


def _text(value: float | str | Sequence[str]) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, str):
        return value
    return ";".join(value)


@dataclass(frozen=True)
class Update:
    """An update as a rule in Python sees it. Its arrays are read-only."""

    author: str  #: Peer id of who published it.
    own: bool  #: Whether it is this node's.
    num_examples: int  #: Examples it was trained on.
    epoch: int  #: The epoch that it comes after.
    staleness: float  #: In epochs, 0 for a fresh one.
    metrics: dict[str, float]  #: Figures that its author published.
    weights: dict[str, Any]  #: Arrays by name, in order of names.


@dataclass(frozen=True)
class Round:
    """A fold as a rule in Python sees it."""

    number: int  #: The node's own count of folds, from 1: Flower's `server_round`.
    failures: int  #: Updates that could not be used.


#: A rule of the user's own: gets the updates, one of them the node's own, and gives all of the new weights, by name.
#: It may take the `Round` as a second argument.
FoldFunction = Callable[..., Mapping[str, Any]]


class Rule:
    """What the native half calls for a strategy that is written in Python.

    Whatever a rule raises is told as the event `not_folded`, with its traceback, and the node goes on with its own
    weights. Kinds of it override `begin_with`, `fold_updates`, `state` and `take_state`.
    """

    kind: str = "python"

    def __init__(self) -> None:
        """A rule that has folded nothing."""
        self._begun_badly: Exception | None = None
        self._saved = b""
        self._folding: int | None = None

    def begin_with(self, weights: dict[str, Any]) -> None:
        """Called with the weights from which the node begins, before the first fold, unless it is restored."""

    def fold_updates(self, updates: list[Update], round: Round) -> tuple[Mapping[str, Any], Sequence[float] | None]:
        """The new weights, and each update's share in them if that is known."""
        raise NotImplementedError

    def state(self) -> bytes:
        """What it remembers from fold to fold, to survive a restart."""
        return b""

    def take_state(self, state: bytes) -> None:
        """Goes on with what `state` gave."""

    def begin(self, came: list[Tensor]) -> None:
        """See `begin_with`."""
        try:
            self._begun_badly = None
            self.begin_with(_arrays.arrays(came, copy=False))
        except Exception as error:
            self._begun_badly = error

    def fold(self, number: int, failures: int, came: list[tuple[Any, ...]]) -> tuple[list[Tensor], list[float]]:
        """See `fold_updates`. Checks what it gives."""
        self._folding = threading.get_ident()
        try:
            return self._fold(number, failures, came)
        finally:
            self._folding = None

    def interrupt(self) -> None:
        """Has a fold under way raise, in the code of the rule: for the end of the interpreter, which would crash it."""
        if (thread := self._folding) is not None:
            import ctypes

            error = ctypes.py_object(Stopped)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), error)

    def _fold(self, number: int, failures: int, came: list[tuple[Any, ...]]) -> tuple[list[Tensor], list[float]]:
        if self._begun_badly is not None:
            raise StrategyError("the strategy could not begin") from self._begun_badly
        updates = [
            Update(author, own, num_examples, epoch, staleness, metrics, _arrays.arrays(tensors, copy=False))
            for author, own, num_examples, epoch, staleness, metrics, tensors in came
        ]
        folded, shares = self.fold_updates(updates, Round(number, failures))
        if not isinstance(folded, Mapping):
            raise TypeError(f"a strategy gives a dict of arrays, not {type(folded).__name__}")
        model = updates[0].weights
        if missing := model.keys() - folded.keys():
            raise KeyError(f"the folded weights lack {', '.join(sorted(missing))}")
        result = {name: _fitting(name, folded[name], model[name]) for name in model}
        if shares is None:
            total = sum(update.num_examples for update in updates) or 1
            shares = [update.num_examples / total for update in updates]
        return _arrays.tensors(result), [float(share) for share in shares]

    def save(self) -> bytes:
        """See `state`. If that fails, what was saved before."""
        try:
            self._saved = bytes(self.state())
        except Exception:
            _log.exception("the strategy's state can't be saved; a restart goes on with the one before")
        return self._saved

    def restore(self, state: bytes) -> None:
        """See `take_state`."""
        self._begun_badly = None
        self.take_state(state)
        self._saved = state


def _fitting(name: str, folded: Any, model: Any) -> Any:
    """A folded array with the dtype of the model's, rounded where that has integers."""
    array = np.asarray(folded)
    if array.dtype.kind not in "fiub" and array.dtype != model.dtype:
        raise TypeError(f"{name} was folded to {array.dtype}, and the model has {model.dtype}")
    if array.shape != model.shape:
        raise ValueError(f"{name} was folded to the shape {array.shape}, and the model has {model.shape}")
    is_float = model.dtype.kind not in "iub"
    with np.errstate(over="ignore", invalid="ignore"):
        if array.dtype != model.dtype:
            array = (array if is_float or array.dtype.kind in "iub" else np.rint(array)).astype(model.dtype)
    if is_float and not np.isfinite(array.astype(np.float64, copy=False)).all():
        raise ValueError(f"{name} was folded to numbers that are not finite")
    return array


class FunctionRule(Rule):
    """A rule that is a function of the updates."""

    kind = "function"

    def __init__(self, function: FoldFunction) -> None:
        """The rule that this function is."""
        super().__init__()
        self._function = function
        self._takes_round = _positional(function) >= 2

    def fold_updates(self, updates: list[Update], round: Round) -> tuple[Mapping[str, Any], Sequence[float] | None]:
        """Calls the function."""
        return (self._function(updates, round) if self._takes_round else self._function(updates)), None

    def state(self) -> bytes:
        """What the function's own `save()` gives, if it is an object that has one."""
        save = getattr(self._function, "save", None)
        return b"" if save is None else bytes(save())

    def take_state(self, state: bytes) -> None:
        """Gives the object's own `restore(state)` what it has saved."""
        restore = getattr(self._function, "restore", None)
        if restore is not None:
            restore(state)


def _positional(function: Callable[..., object]) -> int:
    from inspect import Parameter, signature

    try:
        parameters = signature(function).parameters.values()
    except (TypeError, ValueError):
        return 1
    kinds = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
        return 2
    return sum(parameter.kind in kinds for parameter in parameters)


def rule_of(strategy: object) -> tuple[str, dict[str, str]] | tuple[str, Rule]:
    """What the native half folds by, for what a user gives as a strategy.

    Raises `StrategyError` for what is none.
    """
    if strategy is None:
        return "fedavg", {}
    if isinstance(strategy, type):
        raise StrategyError(f"{strategy.__name__} is a class: give an object of it, as in {strategy.__name__}()")
    if isinstance(strategy, Strategy):
        return strategy.name, strategy.parameters
    if isinstance(strategy, str):
        _native.check_strategy(strategy, {})
        return strategy, {}
    if isinstance(strategy, Rule):
        return strategy.kind, strategy
    if hasattr(strategy, "aggregate_fit"):
        from .flower import FlowerRule

        rule = FlowerRule(strategy)
        return rule.kind, rule
    if callable(strategy):
        return f"python:{getattr(strategy, '__name__', type(strategy).__name__)}", FunctionRule(strategy)
    raise StrategyError(
        f"{strategy!r} is no strategy: give one of peerfold's, such as peerfold.FedAvg(), a name, a "
        "flwr.server.strategy.Strategy, or a function of the updates"
    )

"""Flower: its strategies as rules for folding.

Any `flwr.server.strategy.Strategy` can be given to a node as it is; this module is imported then.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ._errors import StrategyError
from ._strategy import Round, Rule, Update


def weights_of(arrays: Sequence[Any]) -> dict[str, Any]:
    """Arrays in an order, as Flower has them, with names of that order."""
    return {f"{number:06}": array for number, array in enumerate(arrays)}


def list_of(weights: Mapping[str, Any]) -> list[Any]:
    """The arrays of `weights_of`, in their order."""
    return [weights[name] for name in sorted(weights)]


def _parameters(weights: Mapping[str, Any]) -> Any:
    """Flower's `Parameters` of these arrays, in the order of their names: serialized as `.npy`, never pickled."""
    from flwr.common import ndarrays_to_parameters

    return ndarrays_to_parameters([np.asarray(array) for array in weights.values()])


#: One strategy may be given to several nodes of a process.
_one_at_a_time = threading.Lock()


class FlowerRule(Rule):
    """A strategy of Flower's: its `aggregate_fit` is called with the updates of a fold, the node's own first.

    The order of a model's arrays is that of their names. Figures that it aggregates are in `metrics` afterwards. What
    it remembers from round to round in attributes that are arrays, lists of arrays, or `Parameters`, as Flower's own
    strategies do, survives a restart.
    """

    def __init__(self, strategy: Any) -> None:
        """The rule that this strategy is."""
        super().__init__()
        self.strategy = strategy
        self.kind = f"flwr:{type(strategy).__name__}"
        self.metrics: dict[str, Any] = {}

    def begin_with(self, weights: dict[str, Any]) -> None:
        """Gives a strategy that steps from the last model, as FedAdam does, the one that the node begins from."""
        if hasattr(self.strategy, "current_weights"):
            self.strategy.current_weights = [np.array(array) for array in weights.values()]
        if getattr(self.strategy, "initial_parameters", ...) is None:
            self.strategy.initial_parameters = _parameters(weights)

    def fold_updates(self, updates: list[Update], round: Round) -> tuple[Mapping[str, Any], Sequence[float] | None]:
        """Calls `aggregate_fit`."""
        from flwr.common import Code, FitRes, Status, parameters_to_ndarrays

        status = Status(code=Code.OK, message="Success")
        results = [
            (
                _Proxy(update.author),
                FitRes(
                    status=status,
                    parameters=_parameters(update.weights),
                    num_examples=update.num_examples,
                    metrics=dict(update.metrics),
                ),
            )
            for update in updates
        ]
        failures: list[BaseException] = [StrategyError("an update could not be used")] * round.failures
        with _one_at_a_time:
            parameters, metrics = self.strategy.aggregate_fit(round.number, results, failures)
        if parameters is None:
            raise StrategyError(f"{type(self.strategy).__name__} gave no parameters")
        arrays = parameters_to_ndarrays(parameters)
        names = list(updates[0].weights)
        if len(arrays) != len(names):
            raise StrategyError(f"{type(self.strategy).__name__} gave {len(arrays)} arrays for {len(names)}")
        self.metrics = dict(metrics or {})
        return dict(zip(names, arrays, strict=True)), None

    def state(self) -> bytes:
        """The strategy's attributes that are arrays."""
        from flwr.common import Parameters, parameters_to_ndarrays

        saved: dict[str, Any] = {}
        for name, value in vars(self.strategy).items():
            if isinstance(value, np.ndarray):
                saved[f"array/{name}"] = value
            elif isinstance(value, Parameters):
                _put_list(saved, "parameters", name, parameters_to_ndarrays(value))
            elif (
                isinstance(value, list) and value and all(isinstance(item, (np.ndarray, np.generic)) for item in value)
            ):
                _put_list(saved, "list", name, value)
        out = io.BytesIO()
        np.savez(out, allow_pickle=False, **saved)
        return out.getvalue()

    def take_state(self, state: bytes) -> None:
        """Sets the attributes that `state` has."""
        from flwr.common import ndarrays_to_parameters

        if not state:
            return
        lists: dict[tuple[str, str], list[Any]] = {}
        with np.load(io.BytesIO(state), allow_pickle=False) as saved:
            for key in saved.files:
                kind, name, *at = key.split("/")
                if kind == "array":
                    setattr(self.strategy, name, saved[key])
                elif at:
                    lists.setdefault((kind, name), []).append((int(at[0]), saved[key]))
        for (kind, name), numbered in lists.items():
            arrays = [array for _, array in sorted(numbered, key=lambda pair: pair[0])]
            setattr(self.strategy, name, ndarrays_to_parameters(arrays) if kind == "parameters" else arrays)


def _put_list(saved: dict[str, Any], kind: str, name: str, arrays: Sequence[Any]) -> None:
    for at, array in enumerate(arrays):
        saved[f"{kind}/{name}/{at}"] = array


class _Proxy:
    """What stands for a client where a strategy asks for it: there is none to call, only its id."""

    def __init__(self, cid: str) -> None:
        self.cid = cid
        self.node_id = cid

    def __repr__(self) -> str:
        return f"client {self.cid}"

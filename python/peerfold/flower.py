"""Flower: its strategies as rules for folding, and its clients without a server.

Any `flwr.server.strategy.Strategy` can be given to a node as it is. `run` has a `NumPyClient` learn with others.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ._errors import StrategyError
from ._folders import SharedFolder
from ._node import AsyncFederatedNode, FederatedNode, SyncFederatedNode
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
    """A strategy of Flower's: its `aggregate_fit` is called with the updates of a fold, also the node's own.

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


def run(
    client: Any,
    folder: SharedFolder,
    strategy: Any,
    rounds: int,
    *,
    num_nodes: int | None = None,
    **options: Any,
) -> History:
    """Has a `flwr.client.NumPyClient` learn with the others that do this in the same folder, without a server.

    Each round calls `fit` with the weights to train on from and the config of the strategy's `on_fit_config_fn`, shares
    what it gives, folds by the strategy, and calls `evaluate` with what was folded and the config of
    `on_evaluate_config_fn`. The first weights are the strategy's `initial_parameters`, else the client's
    `get_parameters`, and must be the same on all nodes. Evaluations travel with the next round's update, so the
    strategy's `evaluate_metrics_aggregation_fn` gets those of the round before; of the last round a node has its own.

    Args:
        client: The client, or what `NumPyClient.to_client()` made of it.
        folder: Where updates are put and found.
        strategy: A `flwr.server.strategy.Strategy`, or one of `peerfold`, which has no configs.
        rounds: The last round, from 1. A node that goes on after a crash trains the rest of them.
        num_nodes: How many nodes there are, if they wait for each other; without it nobody waits.
        options: Of the node, such as `home`: see `peerfold.AsyncFederatedNode`, `peerfold.SyncFederatedNode`.

    Gives the figures of each round. Raises what the client raises: the round is trained again by the next call with the
    same home.
    """
    client = getattr(client, "numpy_client", client)
    rule: Any = _RunRule(strategy) if hasattr(strategy, "aggregate_fit") else strategy
    node: FederatedNode
    if num_nodes is None:
        node = AsyncFederatedNode(folder, rule, **options)
    else:
        node = SyncFederatedNode(folder, rule, num_nodes, **options)
    history = History()
    evaluated: dict[str, float] = {}
    with node:
        weights = node.begin(weights_of(_first(client, strategy)))
        for round in node.epochs(rounds):
            arrays, count, metrics = client.fit(list_of(weights), _config(strategy, "on_fit_config_fn", round))
            figures = {name: value for name, value in metrics.items() if isinstance(value, (bool, int, float))}
            history.metrics_fit[round] = dict(metrics)
            weights = node.update(weights_of(arrays), count, {**figures, **evaluated})
            if isinstance(rule, _RunRule):
                history.metrics_aggregated_fit[round] = rule.metrics
                if rule.evaluations:
                    history.metrics_aggregated_evaluate[round - 1] = rule.evaluations
            config = _config(strategy, "on_evaluate_config_fn", round)
            loss, count, metrics = client.evaluate(list_of(weights), config)
            history.losses[round] = float(loss)
            history.metrics_evaluate[round] = dict(metrics)
            figures = {name: value for name, value in metrics.items() if isinstance(value, (bool, int, float))}
            node.evaluated({"loss": loss, **figures})
            evaluated = {f"{_EVALUATED}{name}": float(value) for name, value in figures.items()}
            evaluated[f"{_EVALUATED}{_COUNT}"] = float(count)
            evaluated[f"{_EVALUATED}{_LOSS}"] = float(loss)
        history.parameters = list_of(weights)
    return history


@dataclass
class History:
    """What a run came to, round by round."""

    #: What the client's `fit` told of itself.
    metrics_fit: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: Those of all whose updates were folded, by the strategy's `fit_metrics_aggregation_fn`.
    metrics_aggregated_fit: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: The client's losses of the folded weights.
    losses: dict[int, float] = field(default_factory=dict)
    #: What its `evaluate` told besides.
    metrics_evaluate: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: Those of all, by the strategy's `evaluate_metrics_aggregation_fn`; not of the last round.
    metrics_aggregated_evaluate: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: The last weights.
    parameters: list[Any] = field(default_factory=list)


#: What metrics of evaluations are called in an update, and which of them are no metrics.
_EVALUATED, _COUNT, _LOSS = "evaluated/", "num_examples", "loss"


class _RunRule(FlowerRule):
    """A strategy of Flower's in `run`: metrics of evaluations are kept apart from those of training."""

    def __init__(self, strategy: Any) -> None:
        super().__init__(strategy)
        self.evaluations: dict[str, Any] = {}

    def begin_with(self, weights: dict[str, Any]) -> None:
        if hasattr(self.strategy, "current_weights") or getattr(self.strategy, "initial_parameters", ...) is None:
            super().begin_with(weights)

    def fold_updates(self, updates: list[Update], round: Round) -> tuple[Mapping[str, Any], Sequence[float] | None]:
        plain, evaluations = [], []
        for update in updates:
            own, told = {}, {}
            for name, value in update.metrics.items():
                if name.startswith(_EVALUATED):
                    told[name.removeprefix(_EVALUATED)] = value
                else:
                    own[name] = value
            plain.append(replace(update, metrics=own))
            if told:
                count = int(told.pop(_COUNT, 0))
                told.pop(_LOSS, None)
                evaluations.append((count, told))
        folded = super().fold_updates(plain, round)
        aggregate = getattr(self.strategy, "evaluate_metrics_aggregation_fn", None)
        self.evaluations = dict(aggregate(evaluations)) if aggregate is not None and evaluations else {}
        return folded


def _first(client: Any, strategy: Any) -> Sequence[Any]:
    from flwr.common import parameters_to_ndarrays

    initial = getattr(strategy, "initial_parameters", None)
    arrays: Sequence[Any] = client.get_parameters({}) if initial is None else parameters_to_ndarrays(initial)
    return arrays


def _config(strategy: Any, function: str, round: int) -> dict[str, Any]:
    configure = getattr(strategy, function, None)
    return {} if configure is None else dict(configure(round))

"""Flower: its strategies as rules for folding, and its clients without a server.

Any `flwr.server.strategy.Strategy` can be given to a node as it is. `run` has a `NumPyClient` learn with others.
"""

from __future__ import annotations

import io
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from . import _metrics
from ._errors import Error, StrategyError, WeightsError
from ._events import log
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


@contextmanager
def _figures_cost_no_fold(strategy: Any) -> Iterator[None]:
    """Within it a strategy goes on if what the program gave it to aggregate figures by raises.

    A peer decides which figures it tells, and one without a figure that the program expects would end all folding.
    """
    name = "fit_metrics_aggregation_fn"
    given = getattr(strategy, name, None)
    if not callable(given):
        yield
        return

    def aggregate(metrics: Any) -> dict[str, Any]:
        try:
            return dict(given(metrics))
        except Exception:
            log.exception("%s has failed, so this fold has no figures: do all peers tell the same ones?", name)
            return {}

    setattr(strategy, name, aggregate)
    try:
        yield
    finally:
        setattr(strategy, name, given)


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
        #: Names of metrics by their short forms in updates.
        self.names: dict[str, str] = {}

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
                    metrics={self.names.get(name, name): value for name, value in update.metrics.items()},
                ),
            )
            for update in updates
        ]
        failures: list[BaseException] = [StrategyError("an update could not be used")] * round.failures
        with _one_at_a_time, _figures_cost_no_fold(self.strategy):
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


class _OnlyClient:
    """A `ClientManager` for a strategy that asks which clients take part in a round: the node's own, in all of them."""

    def __init__(self) -> None:
        self.proxy = _Proxy("own")

    def __len__(self) -> int:
        return 1

    def num_available(self) -> int:
        return 1

    def register(self, client: Any) -> bool:
        return False

    def unregister(self, client: Any) -> None:
        pass

    def all(self) -> dict[str, Any]:
        return {self.proxy.cid: self.proxy}

    def wait_for(self, num_clients: int, timeout: int = 0) -> bool:
        return True

    def sample(self, num_clients: int, min_num_clients: int | None = None, criterion: Any = None) -> list[Any]:
        return [self.proxy]


@dataclass(frozen=True)
class _Evaluation:
    """What a client has said of folded weights."""

    author: str
    count: int
    loss: float
    metrics: dict[str, Any]


#: What figures of evaluations are called in an update, and which of them are no metrics.
_EVALUATED, _COUNT, _LOSS = "evaluated/", "num_examples", "loss"
_FIRST = (f"{_EVALUATED}{_COUNT}", f"{_EVALUATED}{_LOSS}", _LOSS)


class _RunRule(FlowerRule):
    """A strategy of Flower's in `run`: evaluations come with updates, and are kept apart from figures of training."""

    def __init__(self, strategy: Any) -> None:
        super().__init__(strategy)
        #: What the updates of the last fold told, but the node's own, and the epoch after which it was evaluated.
        self.heard: list[_Evaluation] = []
        self.heard_of = 0
        self.folded_nodes = 0

    def begin_with(self, weights: dict[str, Any]) -> None:
        if hasattr(self.strategy, "current_weights") or getattr(self.strategy, "initial_parameters", ...) is None:
            super().begin_with(weights)

    def forget(self) -> None:
        """Before an update, after which nothing may have been folded."""
        self.metrics, self.heard, self.heard_of, self.folded_nodes = {}, [], 0, 0

    def fold_updates(self, updates: list[Update], round: Round) -> tuple[Mapping[str, Any], Sequence[float] | None]:
        heard = [told for update in updates if not update.own and (told := _told(update, self.names)) is not None]
        folded = super().fold_updates([replace(update, metrics=_of_training(update)) for update in updates], round)
        self.heard, self.heard_of, self.folded_nodes = heard, updates[0].epoch - 1, len(updates)
        return folded


def _of_training(update: Update) -> dict[str, float]:
    return {name: value for name, value in update.metrics.items() if not name.startswith(_EVALUATED)}


def _told(update: Update, names: Mapping[str, str]) -> _Evaluation | None:
    """What an update says of the weights of the fold before, if it says it in finite numbers."""
    found = {}
    for name, value in update.metrics.items():
        name = names.get(name, name)
        if name.startswith(_EVALUATED):
            found[name.removeprefix(_EVALUATED)] = value
    if _COUNT not in found or _LOSS not in found:
        return None
    if not all(math.isfinite(figure) for figure in found.values()) or found[_COUNT] < 0:
        # A peer may say anything, and a count that is none would cost the fold.
        return None
    return _Evaluation(update.author, int(found.pop(_COUNT)), found.pop(_LOSS), found)


class _Driver:
    """A client, and the strategy that it is driven by: Flower's, or one of Peerfold's, which asks for nothing."""

    def __init__(self, client: Any, strategy: Any) -> None:
        self.client = _client(client)
        self.strategy: Any = strategy if hasattr(strategy, "aggregate_fit") else None
        self.clients = _OnlyClient()

    def first(self) -> Sequence[Any]:
        """The first weights."""
        from flwr.common import parameters_to_ndarrays

        initial = getattr(self.strategy, "initial_parameters", None)
        if initial is None and hasattr(self.strategy, "initialize_parameters"):
            initial = self.strategy.initialize_parameters(self.clients)
        arrays: Sequence[Any] = self.client.get_parameters({}) if initial is None else parameters_to_ndarrays(initial)
        if not arrays:
            raise WeightsError(
                "there are no first weights: give the strategy initial_parameters, or the client a get_parameters"
            )
        return arrays

    def _asked(self, configure: str, round: int, weights: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]] | None:
        """What a strategy wants of the client: arrays and a config; `None` if it wants nothing."""
        from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays

        arrays = list_of(weights)
        if self.strategy is None or not hasattr(self.strategy, configure):
            return arrays, {}
        given = ndarrays_to_parameters(arrays)
        with _one_at_a_time:
            asked = getattr(self.strategy, configure)(round, given, self.clients)
        if not asked:
            return None
        _, instructions = asked[0]
        if instructions.parameters is not given:
            arrays = parameters_to_ndarrays(instructions.parameters)
        return arrays, dict(instructions.config)

    def fit(self, round: int, weights: Mapping[str, Any]) -> tuple[Mapping[str, Any], int, dict[str, Any]]:
        """Has the client train."""
        arrays, config = self._asked("configure_fit", round, weights) or (list_of(weights), {})
        trained, count, metrics = _three(self.client.fit(arrays, config), "fit", "arrays")
        if len(trained) != len(weights):
            raise WeightsError(f"the client's fit gave {len(trained)} arrays, and the model has {len(weights)}")
        return weights_of(trained), count, metrics

    def evaluate(self, round: int, weights: Mapping[str, Any]) -> _Evaluation | None:
        """Has the client evaluate, if it can, and the strategy wants it."""
        if not _overrides(self.client, "evaluate"):
            return None
        asked = self._asked("configure_evaluate", round, weights)
        if asked is None:
            return None
        loss, count, metrics = _three(self.client.evaluate(*asked), "evaluate", "loss")
        return _Evaluation("own", int(count), float(loss), metrics)

    def aggregated(self, round: int, evaluations: Sequence[_Evaluation]) -> tuple[float | None, dict[str, Any]]:
        """What the strategy makes of evaluations. What it raises is logged: no weights depend on it."""
        from flwr.common import Code, EvaluateRes, Status

        status = Status(code=Code.OK, message="Success")
        results = [
            (
                _Proxy(told.author),
                EvaluateRes(
                    status=status,
                    loss=told.loss,
                    num_examples=told.count,
                    # Of the others' there are only numbers.
                    metrics=dict(_metrics.numbers(told.metrics)),
                ),
            )
            for told in evaluations
        ]
        if not results or not hasattr(self.strategy, "aggregate_evaluate"):
            return None, {}
        try:
            with _one_at_a_time:
                loss, metrics = self.strategy.aggregate_evaluate(round, results, [])
        except Exception:
            log.exception("the strategy can't aggregate the evaluations of round %d; the weights are folded", round)
            return None, {}
        return loss, dict(metrics or {})

    def centrally(self, round: int, weights: Mapping[str, Any]) -> tuple[float, dict[str, Any]] | None:
        """What the strategy's own `evaluate_fn` says of the weights, if it has one."""
        if getattr(self.strategy, "evaluate_fn", None) is None:
            return None
        with _one_at_a_time:
            told = self.strategy.evaluate(round, _parameters(weights)) if self.strategy is not None else None
        return None if told is None else (float(told[0]), dict(told[1]))


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

    Each round calls `fit` with the weights to train on from, shares what it gives, folds by the strategy, and calls
    `evaluate` with what was folded. The configs are those of the strategy's `configure_fit` and `configure_evaluate`,
    and so of `on_fit_config_fn` and `on_evaluate_config_fn`. The first weights are the strategy's `initial_parameters`,
    else the client's `get_parameters`, and must be the same on all nodes.

    The strategy's `aggregate_evaluate`, and so its `evaluate_metrics_aggregation_fn`, gets the evaluations of all
    nodes. Where they wait for each other these are all of one round: they come with the next round's updates, and those
    of the last round in an exchange of their own at the end, without weights. Where nobody waits, they are the node's
    own and the newest of each other node. Of metrics only numbers get to others, 16 in all. An `evaluate_fn` is called
    by each node for itself.

    Args:
        client: The client, or what `NumPyClient.to_client()` made of it.
        folder: Where updates are put and found.
        strategy: A `flwr.server.strategy.Strategy`, or one of `peerfold`, which has no configs.
        rounds: The last round, from 1. A node that goes on after a crash trains the rest of them.
        num_nodes: How many nodes there are, if they wait for each other; without it nobody waits.
        options: Of the node, such as `home`: see `peerfold.AsyncFederatedNode`, `peerfold.SyncFederatedNode`.

    Gives the figures of each round that was trained in this call. Raises what the client raises: the round is trained
    or evaluated again by the next call with the same home.
    """
    driver = _Driver(client, strategy)
    rule = _RunRule(strategy) if driver.strategy is not None else None
    node: FederatedNode
    if num_nodes is None:
        node = AsyncFederatedNode(folder, rule or strategy, **options)
    else:
        node = SyncFederatedNode(folder, rule or strategy, num_nodes, **options)
    history = History()
    own: _Evaluation | None = None
    are_all_there = others_evaluate = False

    def evaluate(round: int, weights: Mapping[str, Any]) -> _Evaluation | None:
        told = driver.evaluate(round, weights)
        if told is not None:
            history.losses[round] = told.loss
            history.metrics_evaluate[round] = dict(told.metrics)
        if (central := driver.centrally(round, weights)) is not None:
            history.losses_centralized[round], history.metrics_centralized[round] = central
        return told

    def aggregate(round: int, evaluations: Sequence[_Evaluation]) -> None:
        loss, metrics = driver.aggregated(round, evaluations)
        if loss is not None:
            history.losses_aggregated[round] = loss
        if metrics:
            history.metrics_aggregated_evaluate[round] = metrics

    with node:
        weights = node.begin(weights_of(driver.first()))
        if node.epoch == 0 and (central := driver.centrally(0, weights)) is not None:
            history.losses_centralized[0], history.metrics_centralized[0] = central
        elif node.origin == "checkpoint" and node.epoch > 0:
            # What was evaluated in an earlier life was told to nobody.
            own = evaluate(node.epoch, weights)
        for round in node.epochs(rounds):
            trained, count, metrics = driver.fit(round, weights)
            history.metrics_fit[round] = dict(metrics)
            figures = {**metrics, **_figures(own)}
            if rule is not None:
                rule.names = _metrics.by_short(figures)
                rule.forget()
            weights = node.update(trained, count, _metrics.publishable(figures, _FIRST))
            before = [] if own is None else [own]
            if rule is not None:
                history.metrics_aggregated_fit[round] = rule.metrics
                others_evaluate = others_evaluate or bool(rule.heard)
                if num_nodes is not None:
                    same = rule.heard if rule.heard_of == round - 1 else []
                    aggregate(round - 1, before + same)
                are_all_there = rule.folded_nodes == num_nodes
            own = evaluate(round, weights)
            if own is not None:
                node.evaluated(_metrics.publishable({_LOSS: own.loss, **own.metrics}))
            if rule is not None and num_nodes is None:
                aggregate(round, ([] if own is None else [own]) + rule.heard)
        history.parameters = list_of(weights)
        is_complete = not node.is_stopped and node.epoch >= rounds
    if rule is not None and num_nodes is not None and is_complete and (own is not None or others_evaluate):
        others = _last_evaluations(folder, num_nodes, rounds, own, options) if are_all_there else []
        aggregate(rounds, ([] if own is None else [own]) + others)
    return history


#: Options of a node that its last exchange has, too.
_OF_THE_LAST = ("home", "allow", "admin", "readmit", "linger", "start_deadline", "deadline")


def _last_evaluations(
    folder: SharedFolder, num_nodes: int, rounds: int, own: _Evaluation | None, options: Mapping[str, Any]
) -> list[_Evaluation]:
    """The others' evaluations of the last round, which no update follows: a run of one epoch beside, without weights.

    Its nodes wait for each other as those of the run itself, and go on with whoever is there.
    """
    beside = folder._of_run(f"{folder.run}-evaluations-{rounds}")
    figures = _figures(own)
    names = _metrics.by_short(figures)
    heard: list[_Evaluation] = []

    def collect(updates: list[Update]) -> Mapping[str, Any]:
        heard[:] = [told for update in updates if not update.own and (told := _told(update, names)) is not None]
        return updates[0].weights

    taken: dict[str, Any] = {name: options[name] for name in _OF_THE_LAST if name in options}
    nothing = {"nothing": np.zeros(1, np.uint8)}
    try:
        with SyncFederatedNode(beside, collect, num_nodes, below_quorum="alone", **taken) as node:
            node.begin(nothing)
            for _ in node.epochs(1):
                node.update(nothing, 0 if own is None else own.count, _metrics.publishable(figures, _FIRST))
    except Error as error:
        log.warning("the others' evaluations of the last round can't be had: %s", error)
    return heard


def _figures(told: _Evaluation | None) -> dict[str, Any]:
    """An evaluation as it travels."""
    if told is None:
        return {}
    figures = {f"{_EVALUATED}{name}": value for name, value in _metrics.numbers(told.metrics).items()}
    return {**figures, f"{_EVALUATED}{_COUNT}": told.count, f"{_EVALUATED}{_LOSS}": told.loss}


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
    #: The losses of all, by the strategy's `aggregate_evaluate`.
    losses_aggregated: dict[int, float] = field(default_factory=dict)
    #: The metrics of all, by the same, and so by the strategy's `evaluate_metrics_aggregation_fn`.
    metrics_aggregated_evaluate: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: What the strategy's `evaluate_fn` told of the folded weights; of the first weights under 0.
    losses_centralized: dict[int, float] = field(default_factory=dict)
    #: What it told besides.
    metrics_centralized: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: The last weights.
    parameters: list[Any] = field(default_factory=list)


def _client(client: Any) -> Any:
    """The `NumPyClient` that was given, or that is within what was given."""
    from flwr.client import Client

    client = getattr(client, "numpy_client", client)
    if isinstance(client, (type, Client)) or not callable(getattr(client, "fit", None)):
        raise TypeError(f"{client!r} is no client that takes arrays: give a flwr.client.NumPyClient")
    return client


def _numpy_client() -> Any:
    from flwr.client import NumPyClient

    return NumPyClient


def _overrides(client: Any, method: str) -> bool:
    """Whether a client has a method of its own: the base class has empty ones."""
    own = getattr(type(client), method, None)
    return own is not None and own is not getattr(_numpy_client(), method)


def _three(given: Any, method: str, first: str) -> tuple[Any, Any, dict[str, Any]]:
    """What a client gave, if it is what Flower asks for."""
    if not isinstance(given, tuple) or len(given) != 3 or not isinstance(given[2], dict):
        wanted = f"{first}, a number of examples and a dict of metrics"
        raise TypeError(f"the client's {method} must give {wanted}, and gave {repr(given)[:100]}")
    return given

"""Strategies: the registry's by name, functions of arrays, and Flower's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Recorder, model

import peerfold
from peerfold import _native, _strategies


def folded(strategy: object, values: list[tuple[float, int]], on_event: Any = None, folds: int = 1) -> Any:
    """What the first of several nodes has after it has folded the others' updates."""
    folder = peerfold.InMemoryFolder()
    nodes = [peerfold.AsyncFederatedNode(folder) for _ in values[1:]]
    mine = peerfold.AsyncFederatedNode(folder, strategy, on_event=on_event)
    for node in [*nodes, mine]:
        node.begin(model())
    for node, (value, count) in zip(nodes, values[1:], strict=True):
        node.update(model(value), count, {"loss": 1.0, "accuracy": value / 10})
    value, count = values[0]
    for _ in range(folds):
        result = mine.update(model(value), count, {"loss": 1.0, "accuracy": value / 10})
    for node in [*nodes, mine]:
        node.finish()
    return result


def test_every_rule_of_the_registry_is_a_class_with_its_parameters() -> None:
    known = _native.strategies()
    assert sorted(_strategies.BY_NAME) == sorted(name for name, *_ in known)
    for name, aliases, _, paper, parameters, of_tensors in known:
        cls = _strategies.BY_NAME[name]
        assert getattr(peerfold, cls.__name__) is cls
        assert cls.__doc__ is not None
        assert all(other in cls.__doc__ for other in aliases)
        assert paper[:20] in " ".join(cls.__doc__.split())
        for parameter, _, _ in [*parameters, *of_tensors]:
            assert f"{parameter}:" in cls.__doc__ or f"{parameter}_:" in cls.__doc__
        assert repr(cls()) == f"peerfold.{cls.__name__}()"


def test_the_generated_files_are_those_of_this_build() -> None:
    script = Path(__file__).parents[1] / "generate"
    subprocess.run([sys.executable, script, "--check"], check=True)


def test_rules_fold_by_their_parameters() -> None:
    values = [(1.0, 10), (4.0, 20), (100.0, 10)]
    assert folded(peerfold.FedMedian(), values)["dense.bias"].tolist() == [4, 4, 4]
    assert folded("fedmedian", values)["dense.bias"].tolist() == [4, 4, 4]
    assert folded(peerfold.FedAvg(max_share=0.5), values)["dense.bias"][0] == pytest.approx(27.25)
    assert folded(peerfold.FedAvg(integers="mean"), values)["steps"] == 0
    local = folded(peerfold.FedAvg(local=["dense.bias"]), values)
    assert local["dense.bias"].tolist() == [1, 1, 1]


def test_what_is_no_strategy_is_told() -> None:
    folder = peerfold.InMemoryFolder()
    with pytest.raises(peerfold.StrategyError, match="there are asofed"):
        peerfold.Strategy("fedbest")
    with pytest.raises(peerfold.StrategyError, match="there are asofed"):
        peerfold.AsyncFederatedNode(folder, "fedbest")
    with pytest.raises(peerfold.StrategyError, match="has no parameter"):
        peerfold.Strategy("fedavg", speed=3)
    with pytest.raises(peerfold.StrategyError, match="it takes a number above 0"):
        peerfold.FedAvg(max_share=7)
    with pytest.raises(peerfold.StrategyError, match="is no strategy"):
        peerfold.AsyncFederatedNode(folder, 3)
    with pytest.raises(peerfold.StrategyError, match=r"FedAvg is a class: give an object of it, as in FedAvg\(\)"):
        peerfold.AsyncFederatedNode(folder, peerfold.FedAvg)


def test_a_function_of_arrays_is_a_strategy() -> None:
    seen: list[Any] = []

    def best(updates: list[peerfold.Update], round: peerfold.Round) -> dict[str, Any]:
        seen.append((round.number, [(update.own, update.num_examples, update.metrics) for update in updates]))
        assert not updates[0].weights["dense.bias"].flags.writeable
        return max(updates, key=lambda update: update.metrics["accuracy"]).weights

    result = folded(best, [(1.0, 10), (4.0, 20), (2.0, 5)])
    assert result["dense.bias"].tolist() == [4, 4, 4]
    number, updates = seen[0]
    assert number == 1
    assert updates[0] == (True, 10, {"loss": 1.0, "accuracy": 0.1})
    assert sorted(updates[1:]) == [
        (False, 5, {"loss": 1.0, "accuracy": 0.2}),
        (False, 20, {"loss": 1.0, "accuracy": 0.4}),
    ]


def test_a_fold_in_other_precision_is_rounded_to_the_models() -> None:
    def mean(updates: list[peerfold.Update]) -> dict[str, Any]:
        return {name: np.mean([np.float64(update.weights[name]) for update in updates], axis=0) for name in model()}

    result = folded(mean, [(1.0, 10), (2.0, 20)])
    assert result["dense.bias"].dtype == np.float32
    assert result["dense.bias"].tolist() == [1.5, 1.5, 1.5]
    assert result["steps"].dtype == np.int64


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda updates: 1 / 0, "ZeroDivisionError"),
        (lambda updates: None, "gives a dict of arrays, not NoneType"),
        (lambda updates: {}, "lack dense.bias, dense.weight, steps"),
        (lambda updates: {**model(), "dense.bias": np.zeros(5)}, r"dense.bias was folded to the shape \(5,\)"),
        (lambda updates: {**model(), "dense.bias": np.full(3, np.nan)}, "numbers that are not finite"),
        (lambda updates: {**model(), "dense.bias": np.full(3, 1e300)}, "numbers that are not finite"),
        (
            lambda updates: {**model(), "dense.bias": np.full(3, 1j)},
            "dense.bias was folded to complex128, and the model",
        ),
        (lambda updates: {**model(), "dense.bias": ["a", "b", "c"]}, "dense.bias was folded to <U1, and the model"),
        (lambda updates: {**model(), "dense.bias": None}, "dense.bias was folded to object, and the model"),
        (lambda updates: sys.exit(3), "SystemExit: 3"),
        (lambda: model(), "takes 0 positional arguments"),
    ],
)
def test_a_strategy_that_fails_is_an_event_and_loses_nothing(wrong: Any, told: str, recorder: Recorder) -> None:
    result = folded(wrong, [(1.0, 10), (4.0, 20)], recorder, folds=2)
    assert result["dense.bias"].tolist() == [1, 1, 1]
    events = recorder.named("not_folded")
    assert [event.epoch for event in events] == [1, 2]
    assert "Traceback" in events[0].reason
    import re

    assert re.search(told, events[0].reason), events[0].reason
    assert [event.epoch for event in recorder.named("epoch_done")] == [1, 2]


class Counting:
    """A rule with a memory."""

    def __init__(self) -> None:
        self.folds = 0

    def __call__(self, updates: list[peerfold.Update]) -> dict[str, Any]:
        self.folds += 1
        return {name: array + self.folds for name, array in updates[0].weights.items()}

    def save(self) -> bytes:
        return str(self.folds).encode()

    def restore(self, state: bytes) -> None:
        self.folds = int(state or b"0")


def test_a_rules_memory_survives_a_restart(tmp_path: Path) -> None:
    folder = peerfold.LocalFolder(tmp_path / "shared")
    with peerfold.AsyncFederatedNode(folder, home=tmp_path / "other") as other:
        other.begin(model())
        other.update(model(), 1)
        for epoch in (1, 2, 3):
            node = peerfold.AsyncFederatedNode(folder, Counting(), home=tmp_path / "home")
            node.begin(model())
            assert node.update(model(), 1)["dense.bias"].tolist() == [epoch] * 3
            node.close()


flwr = pytest.importorskip("flwr.server.strategy", reason="flwr isn't installed")


def test_flowers_fedavg_folds_as_ours() -> None:
    values = [(1.0, 10), (4.0, 20), (100.0, 10)]
    theirs = folded(flwr.FedAvg(), values)
    ours = folded(peerfold.FedAvg(reference="flwr-1.41"), values)
    assert all(theirs[name].tobytes() == ours[name].tobytes() for name in ours)


def test_flower_aggregates_metrics(recorder: Recorder) -> None:
    def weighted_average(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
        total = sum(count for count, _ in metrics)
        return {"accuracy": sum(count * each["accuracy"] for count, each in metrics) / total}

    from peerfold.flower import FlowerRule

    rule = FlowerRule(flwr.FedAvg(fit_metrics_aggregation_fn=weighted_average))
    folded(rule, [(1.0, 10), (4.0, 20)], recorder)
    assert rule.metrics == {"accuracy": pytest.approx(0.3)}


def test_flowers_adaptive_rules_go_on_after_a_restart(tmp_path: Path) -> None:
    from flwr.common import ndarrays_to_parameters

    def adam() -> Any:
        start = ndarrays_to_parameters([np.zeros(1)])
        return flwr.FedAdam(initial_parameters=start, eta=0.1)

    def live(directory: Path, restarts: bool) -> list[float]:
        folder = peerfold.LocalFolder(directory / "shared")
        other = peerfold.AsyncFederatedNode(folder, home=directory / "other")
        other.begin(model())
        other.update(model(1), 1)
        node = peerfold.AsyncFederatedNode(folder, adam(), home=directory / "home")
        node.begin(model())
        seen = []
        for epoch in range(3):
            if restarts and epoch:
                node.close()
                node = peerfold.AsyncFederatedNode(folder, adam(), home=directory / "home")
                node.begin(model())
            seen.append(float(node.update(model(2), 1)["dense.bias"][0]))
        node.close()
        other.close()
        return seen

    undisturbed = live(tmp_path / "undisturbed", False)
    assert 0 < undisturbed[0] < undisturbed[1] < undisturbed[2]
    assert live(tmp_path / "restarted", True) == undisturbed


def test_a_strategy_of_flower_that_raises_is_an_event(recorder: Recorder) -> None:
    class Raising(flwr.FedAvg):  # type: ignore[misc,name-defined]
        def aggregate_fit(self, *_: Any) -> Any:
            raise RuntimeError("out of order")

    assert folded(Raising(), [(1.0, 10), (4.0, 20)], recorder)["dense.bias"].tolist() == [1, 1, 1]
    assert "RuntimeError: out of order" in recorder.named("not_folded")[0].reason

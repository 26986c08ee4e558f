"""Clients of Flower without a server, and flwr-serverless's names."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Recorder

import peerfold

flwr = pytest.importorskip("flwr", reason="flwr isn't installed")

from flwr.client import NumPyClient  # noqa: E402
from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays  # noqa: E402
from flwr.server.strategy import FedAdam, FedAvg  # noqa: E402

from peerfold import flower  # noqa: E402
from peerfold import flwr_serverless as serverless  # noqa: E402


class Client(NumPyClient):  # type: ignore[misc]
    """Moves towards its own number."""

    def __init__(self, number: float) -> None:
        self.number = number
        self.configs: list[Any] = []

    def get_parameters(self, config: Any) -> list[Any]:
        return [np.zeros((2, 2)), np.zeros(1)]

    def fit(self, parameters: list[Any], config: Any) -> tuple[list[Any], int, dict[str, Any]]:
        self.configs.append(("fit", config))
        return [array + (self.number - array) * 0.5 for array in parameters], 10, {"near": self.number, "who": "me"}

    def evaluate(self, parameters: list[Any], config: Any) -> tuple[float, int, dict[str, Any]]:
        self.configs.append(("evaluate", config))
        return float(abs(parameters[0] - self.number).mean()), 5, {"accuracy": self.number}


def weighted_average(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    total = sum(count for count, _ in metrics)
    names = metrics[0][1].keys()
    return {name: sum(count * each[name] for count, each in metrics) / total for name in names}


def strategy(**options: Any) -> Any:
    return FedAvg(
        on_fit_config_fn=lambda round: {"round": round},
        on_evaluate_config_fn=lambda round: {"evaluation": round},
        fit_metrics_aggregation_fn=weighted_average,
        evaluate_metrics_aggregation_fn=weighted_average,
        **options,
    )


def test_clients_run_without_a_server() -> None:
    folder = peerfold.InMemoryFolder()
    clients = [Client(0), Client(4)]

    def live(number: int) -> flower.History:
        return flower.run(clients[number], folder, strategy(), 3, num_nodes=2)

    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(live, range(2))
    assert all(np.array_equal(a, b) for a, b in zip(one.parameters, two.parameters, strict=True))
    assert one.parameters[0].shape == (2, 2)
    assert one.parameters[1].tolist() == [1.75]
    assert clients[0].configs == [
        (what, {name: round}) for round in (1, 2, 3) for what, name in (("fit", "round"), ("evaluate", "evaluation"))
    ]
    assert one.metrics_aggregated_fit == {round: {"near": 2.0} for round in (1, 2, 3)}
    # Of the last round too, of which no update of weights tells.
    assert one.metrics_aggregated_evaluate == two.metrics_aggregated_evaluate
    assert one.metrics_aggregated_evaluate == {round: {"accuracy": 2.0} for round in (1, 2, 3)}
    assert one.losses_aggregated == {round: (one.losses[round] + two.losses[round]) / 2 for round in (1, 2, 3)}
    assert one.losses[3] == 1.75
    assert two.metrics_evaluate[3] == {"accuracy": 4}
    assert one.metrics_fit[1]["who"] == "me"


def test_initial_parameters_come_first_and_a_killed_client_goes_on(tmp_path: Path) -> None:
    initial = ndarrays_to_parameters([np.full((2, 2), 8.0), np.zeros(1)])
    folder = peerfold.LocalFolder(tmp_path / "shared")
    first = flower.run(Client(0), folder, strategy(initial_parameters=initial), 1, home=tmp_path / "home")
    assert first.parameters[0].tolist() == [[4, 4], [4, 4]]

    class Failing(Client):
        def evaluate(self, parameters: list[Any], config: Any) -> Any:
            raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        flower.run(Failing(0), folder, strategy(initial_parameters=initial), 3, home=tmp_path / "home")
    last = flower.run(Client(0), folder, peerfold.FedAvg(), 3, home=tmp_path / "other")
    assert last.parameters
    client = Client(0)
    flower.run(client, folder, strategy(initial_parameters=initial), 3, home=tmp_path / "home")
    # What was not evaluated is.
    assert client.configs[:2] == [("evaluate", {"evaluation": 1}), ("fit", {"round": 2})]


def run_both(clients: list[Any], make: Any, rounds: int, **options: Any) -> list[flower.History]:
    folder = peerfold.InMemoryFolder()
    with ThreadPoolExecutor(2) as threads:
        runs = [threads.submit(flower.run, client, folder, make(), rounds, **options) for client in clients]
        return [run.result() for run in runs]


def test_figures_that_frameworks_have_come_under_their_names() -> None:
    class Keras(Client):
        """Its metrics are called as Keras calls them, and have NumPy's types."""

        def fit(self, parameters: list[Any], config: Any) -> Any:
            arrays, count, _ = super().fit(parameters, config)
            return arrays, count, {"sparse_categorical_accuracy": np.float32(self.number), "epochs": np.int64(2)}

        def evaluate(self, parameters: list[Any], config: Any) -> Any:
            loss, count, _ = super().evaluate(parameters, config)
            more = {f"metric_{number}": 1.0 for number in range(20)}
            return loss, count, {"val_sparse_categorical_accuracy": np.float32(self.number), "who": "me", **more}

    def make() -> Any:
        mean = lambda metrics: {"val": weighted_average([(n, {"v": m[VAL]}) for n, m in metrics])["v"]}  # noqa: E731
        return FedAvg(fit_metrics_aggregation_fn=weighted_average, evaluate_metrics_aggregation_fn=mean)

    VAL = "val_sparse_categorical_accuracy"
    for history in run_both([Keras(0), Keras(4)], make, 2, num_nodes=2):
        assert history.metrics_aggregated_fit[2] == {"sparse_categorical_accuracy": 2.0, "epochs": 2.0}
        assert history.metrics_aggregated_evaluate == {1: {"val": 2.0}, 2: {"val": 2.0}}


def test_who_waits_for_nobody_aggregates_the_newest_evaluations_at_once() -> None:
    folder = peerfold.InMemoryFolder()
    first = flower.run(Client(0), folder, strategy(), 3)
    assert first.metrics_aggregated_evaluate == {round: {"accuracy": 0} for round in (1, 2, 3)}
    second = flower.run(Client(4), folder, strategy(), 5)
    # The newest that the first has told, with its last update, and its own.
    assert second.metrics_aggregated_evaluate == {round: {"accuracy": 2.0} for round in (4, 5)}


def test_strategies_configure_rounds_as_they_do_in_flower() -> None:
    from flwr.server.strategy import FedProx

    client = Client(1)
    prox = FedProx(proximal_mu=0.5, on_fit_config_fn=lambda round: {"round": round}, fraction_evaluate=0.0)
    history = flower.run(client, peerfold.InMemoryFolder(), prox, 2)
    assert client.configs == [("fit", {"round": round, "proximal_mu": 0.5}) for round in (1, 2)]
    assert history.losses == {}

    def central(round: int, arrays: list[Any], config: Any) -> tuple[float, dict[str, Any]]:
        return float(round), {"size": arrays[0].size}

    history = flower.run(Client(1), peerfold.InMemoryFolder(), FedAvg(evaluate_fn=central), 2)
    assert history.losses_centralized == {0: 0.0, 1: 1.0, 2: 2.0}
    assert history.metrics_centralized[2] == {"size": 4}


def test_a_client_may_have_fit_alone() -> None:
    class Bare(NumPyClient):  # type: ignore[misc]
        def fit(self, parameters: list[Any], config: Any) -> Any:
            return [array + 1 for array in parameters], 3, {}

    folder = peerfold.InMemoryFolder()
    with pytest.raises(peerfold.WeightsError, match="give the strategy initial_parameters"):
        flower.run(Bare(), folder, FedAvg(), 1)
    history = flower.run(Bare().to_client(), folder, FedAvg(initial_parameters=parameters(0)), 2)
    assert history.parameters[1][0] == 2
    assert history.metrics_evaluate == history.metrics_aggregated_evaluate == {}


def test_who_evaluates_nothing_has_the_others_evaluations() -> None:
    class Fitting(NumPyClient):  # type: ignore[misc]
        def get_parameters(self, config: Any) -> list[Any]:
            return [np.zeros((2, 2)), np.zeros(1)]

        def fit(self, parameters: list[Any], config: Any) -> Any:
            return parameters, 10, {"near": 0.0}

    one, two = run_both([Client(4), Fitting()], strategy, 2, num_nodes=2)
    assert one.metrics_aggregated_evaluate == two.metrics_aggregated_evaluate
    assert two.metrics_aggregated_evaluate == {1: {"accuracy": 4.0}, 2: {"accuracy": 4.0}}


def test_what_is_no_client_is_told() -> None:
    from flwr.client import Client as RawClient

    class Wrong(Client):
        def fit(self, parameters: list[Any], config: Any) -> Any:
            return parameters

    class Short(Client):
        def fit(self, parameters: list[Any], config: Any) -> Any:
            return parameters[:1], 1, {}

    folder = peerfold.InMemoryFolder()
    for client in (RawClient(), Client, None):
        with pytest.raises(TypeError, match=r"give a flwr.client.NumPyClient"):
            flower.run(client, folder, FedAvg(), 1)
    with pytest.raises(TypeError, match="fit must give arrays, a number of examples and a dict of metrics"):
        flower.run(Wrong(0), folder, FedAvg(), 1)
    with pytest.raises(peerfold.WeightsError, match="gave 1 arrays, and the model has 2"):
        flower.run(Short(0), folder, FedAvg(), 1)


def test_a_strategy_that_cannot_aggregate_evaluations_costs_no_fold(caplog: pytest.LogCaptureFixture) -> None:
    def make() -> Any:
        return FedAvg(evaluate_metrics_aggregation_fn=lambda metrics: 1 / 0)

    one, two = run_both([Client(0), Client(4)], make, 2, num_nodes=2)
    assert one.parameters[1].tolist() == two.parameters[1].tolist() == [1.5]
    failed = [record for record in caplog.records if "evaluations of round" in record.getMessage()]
    assert failed
    assert all(record.exc_info is not None for record in failed)


@pytest.mark.parametrize("count", [np.nan, np.inf, -1.0])
def test_a_peer_that_counts_nonsense_costs_no_fold(count: float, recorder: Recorder) -> None:
    folder = peerfold.InMemoryFolder()
    peer = peerfold.AsyncFederatedNode(folder)
    weights = flower.weights_of([np.full((2, 2), 4.0), np.full(1, 4.0)])
    peer.update(weights, 10, {"evaluated/num_examples": count, "evaluated/loss": 1.0})
    history = flower.run(Client(0), folder, strategy(), 3, on_event=recorder)
    peer.finish()
    assert recorder.named("folded")
    assert not recorder.named("not_folded")
    # The node's own alone.
    assert all(told == {"accuracy": 0} for told in history.metrics_aggregated_evaluate.values())


def parameters(value: float) -> Any:
    return ndarrays_to_parameters([np.full((2, 3), value, np.float32), np.full(12, value, np.float32)])


def values(of: Any) -> list[float]:
    return [float(array.mean()) for array in parameters_to_ndarrays(of)]


@pytest.mark.parametrize("kind", ["memory", "local"])
def test_serverless_asynchronous_nodes(kind: str, tmp_path: Path) -> None:
    folder = serverless.InMemoryFolder() if kind == "memory" else serverless.LocalFolder(directory=str(tmp_path))
    one = serverless.AsyncFederatedNode(shared_folder=folder, strategy=FedAvg())
    two = serverless.AsyncFederatedNode(folder, FedAvg(), node_id="two")
    updated, metrics = one.update_parameters(parameters(1), num_examples=10, metrics={"loss": 1.0}, epoch=0)
    assert (values(updated), metrics) == ([1, 1], {"loss": 1.0})
    updated, metrics = two.update_parameters(parameters(4), num_examples=20, metrics={"loss": 4.0}, epoch=0)
    assert values(updated) == [3, 3]
    assert metrics == {"num_examples": 30, "num_nodes": 2, "loss": 3.0}
    updated, metrics = one.update_parameters(parameters(7), num_examples=10, metrics=None, upload_only=True)
    assert (values(updated), metrics) == ([7, 7], None)
    # What is kept by key isn't mixed with it.
    assert list(folder.items()) == []
    assert two.node_id == "two"
    assert two.counter == 1


def test_serverless_synchronous_nodes_and_a_dead_peer() -> None:
    folder = serverless.InMemoryFolder()
    begun = threading.Barrier(2)

    def live(number: int) -> Any:
        node = serverless.SyncFederatedNode(folder, FedAvg(), num_nodes=2, deadline=8.0)
        with pytest.raises(ValueError, match="is not an int"):
            node.update_parameters(parameters(1), num_examples=10)
        begun.wait()
        updated, _ = node.update_parameters(parameters(number), num_examples=10, metrics={}, epoch=0)
        if number == 1:
            # It dies.
            node.node.close()
            return values(updated)
        again, _ = node.update_parameters(updated, num_examples=10, metrics={}, epoch=1)
        return values(again)

    with ThreadPoolExecutor(2) as threads:
        one, two = threads.map(live, range(2))
    assert one == two == [0.5, 0.5]


def test_serverless_nodes_share_a_strategy_with_a_memory() -> None:
    folder = serverless.InMemoryFolder()
    shared = FedAdam(initial_parameters=parameters(0), eta=0.1)
    nodes = [serverless.AsyncFederatedNode(folder, shared) for _ in range(2)]
    seen = []
    for round in range(3):
        for node in nodes:
            updated, _ = node.update_parameters(parameters(1), num_examples=10, metrics={}, epoch=round)
        seen.append(values(updated)[0])
    assert 0 < seen[0] < seen[1] < seen[2] < 1


@pytest.mark.parametrize("key", ["model", "keras/node/metrics.json"])
def test_serverless_folders_keep_values_without_pickle(key: str, tmp_path: Path) -> None:
    folder = serverless.LocalFolder(directory=str(tmp_path))
    for value in (b"bytes", "text", [0, 1, 2], {"a": 1.5}):
        folder[key] = value
        assert folder[key] == value
        assert folder.get(key) == value
    folder[key] = np.arange(3)
    assert np.array_equal(folder[key], np.arange(3))
    assert [name for name, _ in folder.items()] == [key]
    assert len(folder) == 1
    assert bool(folder)
    del folder[key]
    assert folder[key] is None
    assert folder.get(key, 7) == 7
    with pytest.raises(ValueError, match="must not be None"):
        folder[key] = None
    with pytest.raises(TypeError, match="keeps bytes, arrays, and what JSON has"):
        folder[key] = object()
    with pytest.raises(TypeError, match="keeps bytes, arrays, and what JSON has"):
        folder[key] = np.array([object()])
    raw = folder.get_raw_folder()
    with pytest.raises(AssertionError, match="must be bytes"):
        raw[key] = "text"


@pytest.mark.parametrize("key", ["../out", "/etc/passwd", "a/../../b", "", "a//b", ".peerfold/x", "..", "a\0b"])
def test_serverless_keys_lead_nowhere_else(key: str, tmp_path: Path) -> None:
    folder = serverless.LocalFolder(directory=str(tmp_path / "folder"))
    with pytest.raises(ValueError, match="can't be a key"):
        folder[key] = 1


def test_serverless_folders_unpickle_nothing(tmp_path: Path) -> None:
    import pickle

    folder = serverless.LocalFolder(directory=str(tmp_path))
    (tmp_path / "evil.value").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(ValueError, match="no value that such a folder has written"):
        folder["evil"]
    (tmp_path / "array.value").write_bytes(b"n" + b"\x93NUMPY\x01\x00" + b"\xff" * 100)
    with pytest.raises(ValueError):  # noqa: PT011
        folder["array"]


def test_serverless_buckets_keep_values_whose_prefixes_dont_collide(
    s3: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    one = serverless.S3Folder(directory="weights/serverless")
    other = serverless.S3Folder("s3://weights/serverless-2")
    one["model"] = [1]
    other["model"] = [2]
    assert list(one.items()) == [("model", [1])]
    assert other["model"] == [2]
    assert one["nothing"] is None
    nodes = [serverless.AsyncFederatedNode(one, FedAvg(), home=None) for _ in range(2)]
    for node, value in zip(nodes, (1, 3), strict=True):
        updated, _ = node.update_parameters(parameters(value), num_examples=10, metrics={}, epoch=0)
    assert values(updated) == [2, 2]
    assert list(one.items()) == [("model", [1])]


def test_a_serverless_bucket_needs_no_boto3_for_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    folder = serverless.S3Folder("weights/run")
    assert folder.peerfold_folder().url == "s3://weights/run/peerfold-updates"
    with pytest.raises(ModuleNotFoundError, match="need boto3"):
        folder["key"] = 1

"""A run on MNIST whose nodes each have only some of the digits: what the tests of flwr-serverless are written for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from flwr.server.strategy import FedAvg

from ..federated_node.async_federated_node import AsyncFederatedNode
from ..federated_node.sync_federated_node import SyncFederatedNode
from ..shared_folder.in_memory_folder import InMemoryFolder
from .federated_learning_callback import FlwrFederatedCallback


@dataclass
class FederatedLearningTestRun:
    """Trains models alone and federated, on the same data for as many steps."""

    num_nodes: int = 2
    epochs: int = 8
    num_rounds: int = 8
    batch_size: int = 32
    steps_per_epoch: int = 10
    lr: float = 0.001
    test_steps: int = 10
    strategy: Any = field(default_factory=FedAvg)
    storage_backend: Any = None
    use_async_node: bool = True
    train_concurrently: bool = False
    train_pseudo_concurrently: bool = False
    lag: float = 0.1
    model_builder_fn: Callable[[], Any] | None = None
    replicate_num_channels: bool = False
    save_model_before_aggregation: bool = False
    save_model_after_aggregation: bool = False

    def __post_init__(self) -> None:
        """What isn't given has its default."""
        self._build = self.model_builder_fn or MnistModelBuilder(lr=self.lr).run
        self.storage_backend = InMemoryFolder() if self.storage_backend is None else self.storage_backend
        self.histories: dict[int, Any] = {}
        self.nodes: list[Any] = []
        self.callbacks_per_client: list[FlwrFederatedCallback] = []

    def run(self) -> tuple[list[float], list[float]]:
        """The accuracies of the models that were trained alone, and of those that were federated."""
        datasets = self.create_partitioned_datasets()
        self.partitioned_x_train, self.partitioned_y_train, self.x_test, self.y_test = datasets
        alone = [self._build() for _ in range(self.num_nodes)]
        for number, model in enumerate(alone):
            loader = self.get_train_dataloader_for_node(number)
            self.histories[number] = model.fit(loader, epochs=self.epochs, steps_per_epoch=self.steps_per_epoch)
        federated = self.train_federated_models([self._build() for _ in range(self.num_nodes)])
        return self.evaluate_models(alone), self.evaluate_models(federated)

    def create_partitioned_datasets(self) -> tuple[list[Any], list[Any], Any, Any]:
        """MNIST, its digits divided among the nodes."""
        (x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
        channels = 3 if self.replicate_num_channels else 1
        x_train, x_test = (
            np.repeat(images.astype(np.float32)[..., np.newaxis] / 255, channels, axis=-1)
            for images in (x_train, x_test)
        )
        parts = split_training_data_into_paritions(x_train, y_train, num_partitions=self.num_nodes)
        return *parts, x_test, y_test

    def get_train_dataloader_for_node(self, node_idx: int) -> Iterator[tuple[Any, Any]]:
        """Batches of one node's part, again and again."""
        x, y = self.partitioned_x_train[node_idx], self.partitioned_y_train[node_idx]
        while True:
            for start in range(0, len(x), self.batch_size):
                yield x[start : start + self.batch_size], y[start : start + self.batch_size]

    def train_federated_models(self, models: list[Any]) -> list[Any]:
        """In threads, or one after the other an epoch at a time."""
        if not self.use_async_node and not self.train_concurrently:
            raise NotImplementedError("synchronous nodes wait for each other, so they need train_concurrently")
        for _ in models:
            if self.use_async_node:
                self.nodes.append(AsyncFederatedNode(shared_folder=self.storage_backend, strategy=self.strategy))
            else:
                self.nodes.append(SyncFederatedNode(self.storage_backend, self.strategy, num_nodes=self.num_nodes))
        tests = self._tests()
        self.callbacks_per_client = [
            FlwrFederatedCallback(
                node,
                num_examples_per_epoch=self.steps_per_epoch * self.batch_size,
                x_test=tests[0],
                y_test=tests[1],
                save_model_before_aggregation=self.save_model_before_aggregation,
                save_model_after_aggregation=self.save_model_after_aggregation,
            )
            for node in self.nodes
        ]
        loaders = [self.get_train_dataloader_for_node(number) for number in range(self.num_nodes)]

        def fit(number: int, epochs: int) -> None:
            self.histories[number] = models[number].fit(
                x=loaders[number],
                epochs=epochs,
                steps_per_epoch=self.steps_per_epoch,
                callbacks=[self.callbacks_per_client[number]],
                validation_data=tests,
                validation_steps=self.test_steps,
                validation_batch_size=self.batch_size,
            )

        if self.train_concurrently:
            with ThreadPoolExecutor(max_workers=self.num_nodes) as threads:
                list(threads.map(lambda number: fit(number, self.num_rounds), range(self.num_nodes)))
            return models
        lag = self.lag if self.train_pseudo_concurrently else 0.0
        turns = [(turn + number * lag, number) for number in range(self.num_nodes) for turn in range(self.num_rounds)]
        for _, number in sorted(turns):
            fit(number, 1)
        return models

    def _tests(self) -> tuple[Any, Any]:
        count = self.test_steps * self.batch_size
        return self.x_test[:count], self.y_test[:count]

    def evaluate_models(self, models: list[Any]) -> list[float]:
        """Their accuracies on all digits."""
        tests = [
            model.evaluate(self.x_test, self.y_test, batch_size=self.batch_size, steps=self.test_steps)
            for model in models
        ]
        return [accuracy for _, accuracy in tests]


class MnistModelBuilder:
    """Builds the small convolutional network of the paper."""

    def __init__(self, lr: float = 0.001) -> None:
        """For Adam with this learning rate."""
        self.lr = lr

    def run(self) -> Any:
        """A compiled model."""
        layers = keras.layers
        model = keras.Sequential(
            [
                layers.Input(shape=(28, 28, 1)),
                layers.Conv2D(32, kernel_size=4, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(16, kernel_size=4, activation="relu"),
                layers.Flatten(),
                layers.Dense(10, activation="softmax"),
            ]
        )
        model.compile(
            optimizer=keras.optimizers.Adam(self.lr), loss="sparse_categorical_crossentropy", metrics=["accuracy"]
        )
        return model


def split_training_data_into_paritions(
    x_train: Any, y_train: Any, num_partitions: int = 2
) -> tuple[list[Any], list[Any]]:
    """Divides examples by their labels: each part has as many of the ten classes, and none of another's."""
    each = 10 // num_partitions
    parts = [np.isin(y_train, range(start, start + each)) for start in range(0, 10, each)]
    return [x_train[part] for part in parts], [y_train[part] for part in parts]

"""The callback for Keras: at the end of each epoch it publishes the model, and takes over what was folded."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
from keras.callbacks import Callback

from ..federated_node._node import LOGGER, ServerlessNode

#: Where a callback keeps things in the folder.
_NAME = "keras/{node_id}/{what}_{when}_aggregation_{epoch:05d}.{suffix}"


class FlwrFederatedCallback(Callback):  # type: ignore[misc]
    """Federates a model that Keras trains."""

    def __init__(
        self,
        node: ServerlessNode,
        num_examples_per_epoch: int,
        x_test: Any = None,
        y_test: Any = None,
        test_batch_size: int = 32,
        test_steps: int = 10,
        postfix_for_federated_metrics: str = "_fed",
        override_metrics_with_aggregated_metrics: bool = False,
        save_model_before_aggregation: bool = False,
        save_model_after_aggregation: bool = False,
        **kwargs: Any,
    ) -> None:
        """A callback for `Model.fit`.

        Args:
            node: An `AsyncFederatedNode` or `SyncFederatedNode` of this package.
            num_examples_per_epoch: Examples that an epoch is trained on: how much this node counts in a mean.
            x_test: What the folded model is evaluated on after each epoch, if anything.
            y_test: Its labels.
            test_batch_size: Its batches' size.
            test_steps: How many batches of it.
            postfix_for_federated_metrics: What is appended to the names of aggregated metrics in Keras' logs.
            override_metrics_with_aggregated_metrics: Replace the metrics in Keras' logs instead.
            save_model_before_aggregation: Keep each epoch's trained model in the folder.
            save_model_after_aggregation: Keep each epoch's folded model in the folder.
            kwargs: For Keras.
        """
        super().__init__(**kwargs)
        self.node = node
        self.num_examples_per_epoch = num_examples_per_epoch
        self.x_test, self.y_test = x_test, y_test
        self.test_batch_size, self.test_steps = test_batch_size, test_steps
        self.postfix_for_federated_metrics = postfix_for_federated_metrics
        self.override_metrics_with_aggregated_metrics = override_metrics_with_aggregated_metrics
        self.save_model_before_aggregation = save_model_before_aggregation
        self.save_model_after_aggregation = save_model_after_aggregation
        self.logs: dict[str, Any] = {}
        self._federated_metrics: dict[str, Any] | None = {}

    @property
    def federated_metrics(self) -> dict[str, Any] | None:
        """The figures of the last aggregation."""
        return self._federated_metrics

    def _keep(self, when: str, epoch: int, metrics: dict[str, Any] | None, model: bool) -> None:
        """Puts metrics and model into the folder, if it keeps values by key."""
        if not hasattr(self.node.model_store, "get_raw_folder"):
            return
        folder = self.node.model_store.get_raw_folder()
        named = {"node_id": self.node.node_id, "when": when, "epoch": epoch}
        if metrics:
            figures = {name: number for name, number in ((name, _number(value)) for name, value in metrics.items())}
            text = json.dumps({name: number for name, number in figures.items() if number is not None}, indent=2)
            folder[_NAME.format(what="metrics", suffix="json", **named)] = text.encode()
        if model:
            with tempfile.TemporaryDirectory(prefix="peerfold-model-") as directory:
                path = Path(directory) / "model.h5"
                self.model.save(str(path))
                folder[_NAME.format(what="model", suffix="h5", **named)] = path.read_bytes()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Publishes, folds, takes over, and tells Keras the aggregated metrics."""
        logs = {} if logs is None else logs
        self._keep("before", epoch, logs, self.save_model_before_aggregation)
        postfix = self.postfix_for_federated_metrics
        own = {
            name: value
            for name, value in logs.items()
            if self.override_metrics_with_aggregated_metrics or not name.endswith(postfix)
        }
        updated = self.node.update_parameters(  # type: ignore[attr-defined]
            ndarrays_to_parameters(self.model.get_weights()),
            num_examples=self.num_examples_per_epoch,
            epoch=epoch,
            metrics=own,
        )
        parameters, metrics = updated
        self._federated_metrics = metrics
        self._keep("after", epoch, metrics, False)
        self.model.set_weights(parameters_to_ndarrays(parameters))
        self._keep("after", epoch, None, self.save_model_after_aggregation)
        added = "" if self.override_metrics_with_aggregated_metrics else postfix
        logs.update({f"{name}{added}": value for name, value in (metrics or {}).items()})
        LOGGER.info("epoch %s: federated metrics %s", epoch, metrics)
        if self.x_test is not None:
            self.model.evaluate(
                self.x_test, self.y_test, batch_size=self.test_batch_size, steps=self.test_steps, verbose=2
            )
        self.logs = logs


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None

"""Keras 3: a callback that federates a model at the end of each epoch, whatever the backend.

    model.fit(x, y, epochs=10, callbacks=[peerfold.keras.FederatedCallback(node, num_examples=len(x))])

Weights have the paths of Keras' variables as their names, so layers should be called the same on all nodes: Keras
itself numbers them as a process makes them. The optimizer's variables survive a crash with them. With a `mapping` they
are shared under its names, also with nodes of other frameworks: see `peerfold.mappings`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras.callbacks import Callback

from . import _metrics
from ._errors import CheckpointError, WeightsError
from ._node import FederatedNode
from .mappings import KERAS, WeightMapping


def _named(model: Any) -> dict[str, Any]:
    """A model's variables by their paths within it; of several with one path, the later ones with a number.

    The model's own name isn't in them: Keras numbers models as a process makes them.
    """
    named: dict[str, Any] = {}
    for variable in model.weights:
        within = variable.path.removeprefix(f"{model.name}/")
        path, number = within, 2
        while path in named:
            path, number = f"{within}#{number}", number + 1
        named[path] = variable
    return named


def weights(model: Any, mapping: WeightMapping | None = None) -> dict[str, Any]:
    """A model's weights by the paths of its variables: parameters and running statistics.

    With a mapping they have its names and shapes; raises `WeightsError` if the model isn't of the mapping.
    """
    found = {path: np.asarray(variable) for path, variable in _named(model).items()}
    return found if mapping is None else mapping.to_shared(KERAS, found)


def load(model: Any, new: Mapping[str, Any], mapping: WeightMapping | None = None) -> None:
    """Assigns weights to a model; with a mapping they have its names and shapes.

    Raises `WeightsError` for paths that the model, or names that the mapping, doesn't have; then nothing is changed.
    """
    if mapping is not None:
        new = mapping.from_shared(KERAS, new)
    own = _named(model)
    for path, value in new.items():
        if path not in own:
            raise WeightsError(f"the model has no variable {path}")
        if tuple(own[path].shape) != tuple(np.shape(value)):
            raise WeightsError(f"{path} has the shape {np.shape(value)}, and the model's {tuple(own[path].shape)}")
    for path, value in new.items():
        own[path].assign(value)


class FederatedCallback(Callback):  # type: ignore[misc]
    """Begins when training does, and shares and folds at the end of each epoch.

    A run is over when the node is at the last of `fit`'s `epochs`: after a crash, `fit` with the same `epochs` trains
    the rest of them and then stops.
    """

    def __init__(
        self,
        node: FederatedNode,
        num_examples: int,
        *,
        metrics: Mapping[str, str] | None = None,
        finish: bool = True,
        mapping: WeightMapping | None = None,
    ) -> None:
        """A callback for `Model.fit`.

        Args:
            node: An asynchronous or synchronous node.
            num_examples: Examples that an epoch is trained on: how much it counts in a mean.
            metrics: Which of Keras' logs are published, by the names under which; by default all of them, 16 at most. A
                name of over 24 bytes is cut, and ends in a digest.
            finish: Whether the end of `fit` is the end of the run: the node is finished then. With `False` the program
                may `fit` again, and calls `node.finish()` itself.
            mapping: Under which names and with which axes the model is shared, such as `peerfold.mappings.mnist`; by
                the paths of its variables by default.
        """
        super().__init__()
        self.node, self.num_examples, self.mapping = node, num_examples, mapping
        self._metrics, self._finish = metrics, finish

    def _optimizer(self) -> dict[str, Any]:
        optimizer = getattr(self.model, "optimizer", None)
        variables = [] if optimizer is None else optimizer.variables
        # Not by their paths, which have the model's name in them.
        return {f"optimizer/{number:05}": variable for number, variable in enumerate(variables)}

    def _state(self) -> dict[str, Any]:
        return {path: np.asarray(variable) for path, variable in self._optimizer().items()}

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Gives the model the weights to train on from, and the optimizer what it had before a crash."""
        if self.node.origin is not None:
            return
        own = weights(self.model, self.mapping)
        load(self.model, self.node.begin(own, self._state(), copy=False), self.mapping)
        if isinstance(self.node.state, dict):
            moments = self._optimizer()
            for path, value in self.node.state.items():
                if path not in moments or tuple(moments[path].shape) != value.shape:
                    raise CheckpointError(f"the saved state isn't one of this optimizer: it has {path}")
                moments[path].assign(value)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Publishes the model, folds, and assigns what was folded."""
        last = int(self.params.get("epochs") or 0)
        if last and self._finish and self.node.epoch >= last:
            # It went on where it was, which was the end.
            load(self.model, self.node.weights(), self.mapping)
        else:
            names = self._metrics if self._metrics is not None else {name: name for name in logs or {}}
            figures = {told: (logs or {})[name] for name, told in names.items() if name in (logs or {})}
            trained, shared = weights(self.model, self.mapping), _metrics.publishable(figures)
            folded = self.node.update(trained, self.num_examples, shared, self._state(), copy=False)
            load(self.model, folded, self.mapping)
        if last and self._finish and self.node.epoch >= last:
            self.model.stop_training = True

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Finishes the node."""
        if self._finish:
            self.node.finish()

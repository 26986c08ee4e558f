"""Lightning: a callback for its `Trainer`.

Trainer(max_epochs=10, callbacks=[peerfold.lightning.FederatedCallback(node)]).fit(model, data)
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from . import torch as federated
from ._node import FederatedNode


class FederatedCallback(Callback):  # type: ignore[misc]
    """Begins when training does, and shares and folds at the end of each epoch.

    After a crash a trainer made anew gets the federation's weights and the optimizer's state, and trains as many epochs
    as are left. In distributed training only the process of rank 0 may have it.
    """

    def __init__(self, node: FederatedNode, *, num_examples: int | None = None, finish: bool = True) -> None:
        """A callback for `Trainer`.

        Args:
            node: An asynchronous or synchronous node that has not begun.
            num_examples: Examples of an epoch; by default those of the batches that were seen.
            finish: Whether the end of training is the end of the run: the node is finished then.
        """
        self.node = node
        self._num_examples, self._finish = num_examples, finish
        self._federation: federated.Federation | None = None
        self._seen = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Gives the model the weights to train on from, and the optimizer what it had before a crash."""
        if self._federation is None:
            optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
            self._federation = federated.Federation(self.node, pl_module, optimizer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts examples."""
        self._seen += _examples(batch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Publishes the model with the figures that it has logged, folds, and takes over what was folded."""
        if self._federation is None:
            return
        count = self._seen if self._num_examples is None else self._num_examples
        self._seen = 0
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self._federation.epoch_end(count, figures)
        if self._finish and trainer.max_epochs is not None and 0 < trainer.max_epochs <= self.node.epoch:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Finishes the node."""
        if self._finish:
            self.node.finish()


def _examples(batch: Any) -> int:
    """How many examples a batch has: the length of its first tensor."""
    if hasattr(batch, "shape"):
        return int(batch.shape[0]) if len(batch.shape) else 1
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)) and batch:
        return _examples(batch[0])
    return 1

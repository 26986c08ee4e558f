"""Lightning: a callback for its `Trainer`.

Trainer(max_epochs=10, callbacks=[peerfold.lightning.FederatedCallback(node)]).fit(model, data)
"""

from __future__ import annotations

from typing import Any

from lightning.pytorch.callbacks import Callback

from . import _metrics, _ranks
from . import torch as federated
from ._events import log
from ._node import FederatedNode


class FederatedCallback(Callback):  # type: ignore[misc]
    """Begins when training does, and shares and folds at the end of each epoch.

    After a crash a trainer made anew gets the federation's weights and the states of optimizer and schedule, if it has
    one of each, and trains as many epochs as are left. In distributed training every process has it, as Lightning runs
    the program in each; only the node of rank 0 does anything, and its weights are broadcast to the others.
    """

    def __init__(self, node: FederatedNode, *, num_examples: int | None = None, finish: bool = True) -> None:
        """A callback for `Trainer`.

        Args:
            node: An asynchronous or synchronous node that has not begun.
            num_examples: Examples of an epoch, of all processes together; by default those of the batches that were
                seen.
            finish: Whether the end of training is the end of the run: the node is finished then.
        """
        self.node = node
        self._num_examples, self._finish = num_examples, finish
        self._federation: federated.Federation | None = None
        self._seen = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Gives the model the weights to train on from, and the optimizer what it had before a crash."""
        if self._federation is None:
            optimizers = trainer.optimizers
            if len(optimizers) > 1:
                log.warning("the states of %d optimizers aren't saved: after a crash they begin anew", len(optimizers))
            schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
            optimizer = optimizers[0] if len(optimizers) == 1 else None
            scheduler = schedulers[0] if len(schedulers) == 1 else None
            self._federation = federated.Federation(self.node, pl_module, optimizer, scheduler)
            self._stop_at_end(trainer)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Counts examples."""
        self._seen += _examples(batch)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Publishes the model with the figures that it has logged, folds, and takes over what was folded."""
        if self._federation is None:
            return
        count = _ranks.total(self._seen) if self._num_examples is None else self._num_examples
        self._seen = 0
        self._federation.epoch_end(count, _metrics.publishable(trainer.callback_metrics))
        self._stop_at_end(trainer)

    def _stop_at_end(self, trainer: Any) -> None:
        reached = 0 if self._federation is None else self._federation.epoch
        if self._finish and trainer.max_epochs is not None and 0 < trainer.max_epochs <= reached:
            trainer.should_stop = True

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Finishes the node."""
        if self._finish and self._federation is not None:
            self._federation.finish()


def _examples(batch: Any) -> int:
    """How many examples a batch has: the length of its first tensor."""
    if hasattr(batch, "shape"):
        return int(batch.shape[0]) if len(batch.shape) else 1
    if isinstance(batch, dict):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)) and batch:
        return _examples(batch[0])
    return 1

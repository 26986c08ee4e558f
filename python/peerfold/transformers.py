"""Hugging Face transformers: a callback for `Trainer`.

trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[FederatedCallback(node)])
trainer.train()
"""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from . import torch as federated
from ._node import FederatedNode


class FederatedCallback(TrainerCallback):  # type: ignore[misc]
    """Begins when training does, and shares and folds at the end of each epoch, or every so many steps.

    After a crash a `Trainer` made anew gets the federation's weights and the optimizer's state, and trains as many
    epochs as are left. In distributed training only the main process may have it.
    """

    def __init__(
        self,
        node: FederatedNode,
        *,
        every_steps: int | None = None,
        num_examples: int | None = None,
        finish: bool = True,
    ) -> None:
        """A callback for `Trainer`.

        Args:
            node: An asynchronous or synchronous node that has not begun.
            every_steps: Share after so many steps instead of at the end of each epoch.
            num_examples: Examples between two shares; as many as the trainer's settings say, if it isn't given.
            finish: Whether the end of training is the end of the run: the node is finished then.
        """
        self.node, self.every_steps = node, every_steps
        self._num_examples, self._finish = num_examples, finish
        self._federation: federated.Federation | None = None
        self._shared_at = 0
        self._loss: float | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gives the model the weights to train on from, and the optimizer what it had before a crash."""
        optimizer = kwargs.get("optimizer")
        # accelerate wraps it.
        optimizer = getattr(optimizer, "optimizer", optimizer)
        if self._federation is None:
            self._federation = federated.Federation(self.node, kwargs["model"], optimizer)
        self._shared_at = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Remembers the training loss, which is published with the next update."""
        if logs and isinstance(logs.get("loss"), (int, float)):
            self._loss = float(logs["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shares, if it is time."""
        if self.every_steps is not None and state.global_step - self._shared_at >= self.every_steps:
            self._share(args, state, control)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shares, unless that goes by steps."""
        if self.every_steps is None:
            self._share(args, state, control)
            if self._finish and self.node.epoch >= math.ceil(args.num_train_epochs):
                control.should_training_stop = True

    def _share(self, args: Any, state: Any, control: Any) -> None:
        if self._federation is None or state.global_step == self._shared_at:
            return
        steps = state.global_step - self._shared_at
        batch = args.train_batch_size * args.gradient_accumulation_steps
        count = self._num_examples if self._num_examples is not None else steps * batch
        self._federation.epoch_end(count, None if self._loss is None else {"loss": self._loss})
        self._shared_at = state.global_step

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shares what is left, and finishes the node."""
        if self.every_steps is not None:
            self._share(args, state, control)
        if self._finish:
            self.node.finish()

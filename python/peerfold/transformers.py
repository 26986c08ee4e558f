"""Hugging Face transformers: a callback for `Trainer`.

trainer = Trainer(model=model, args=args, train_dataset=data, callbacks=[FederatedCallback(node)])
trainer.train()
"""

from __future__ import annotations

import math
from typing import Any

from transformers import TrainerCallback

from . import _ranks
from . import torch as federated
from ._node import FederatedNode


class FederatedCallback(TrainerCallback):  # type: ignore[misc]
    """Begins when training does, and shares and folds at the end of each epoch, or every so many steps.

    After a crash a `Trainer` made anew gets the federation's weights and the states of optimizer and schedule, and
    trains as many epochs, or steps, as are left. In distributed training every process has it; only the node of rank 0
    does anything, and its weights are broadcast to the others.
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
            num_examples: Examples between two shares, of all processes together; as many as the trainer's settings
                say, if it isn't given.
            finish: Whether the end of training is the end of the run: the node is finished then.
        """
        self.node, self.every_steps = node, every_steps
        self._num_examples, self._finish = num_examples, finish
        self._federation: federated.Federation | None = None
        self._shared_at = 0
        self._loss: float | None = None
        self._is_over = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gives the model the weights to train on from, and the optimizer what it had before a crash."""
        if self._federation is None:
            # accelerate wraps them.
            optimizer, scheduler = kwargs.get("optimizer"), kwargs.get("lr_scheduler")
            optimizer = getattr(optimizer, "optimizer", optimizer)
            scheduler = getattr(scheduler, "scheduler", scheduler)
            self._federation = federated.Federation(self.node, kwargs["model"], optimizer, scheduler)
            self._is_over = self._finish and self._is_at_end(state)
        self._shared_at = state.global_step
        control.should_training_stop = control.should_training_stop or self._is_over

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Remembers the training loss, which is published with the next update."""
        if logs and isinstance(logs.get("loss"), (int, float)):
            self._loss = float(logs["loss"])

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shares, if it is time."""
        if self.every_steps is not None and state.global_step - self._shared_at >= self.every_steps:
            self._share(args, state, control)
        # The trainer trains a step before it looks whether it should.
        control.should_training_stop = control.should_training_stop or self._is_over

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shares, unless that goes by steps."""
        if self.every_steps is None:
            self._share(args, state, control)

    def _is_at_end(self, state: Any) -> bool:
        reached = 0 if self._federation is None else self._federation.epoch
        if self.every_steps is not None:
            return bool(reached * self.every_steps >= state.max_steps > 0)
        return bool(reached >= math.ceil(state.num_train_epochs) > 0)

    def _share(self, args: Any, state: Any, control: Any) -> None:
        if self._federation is None or self._is_over or state.global_step == self._shared_at:
            return
        steps = state.global_step - self._shared_at
        batch = args.train_batch_size * args.gradient_accumulation_steps * _ranks.count()
        count = self._num_examples if self._num_examples is not None else steps * batch
        self._federation.epoch_end(count, None if self._loss is None else {"loss": self._loss})
        self._shared_at = state.global_step
        if self._finish and self._is_at_end(state):
            control.should_training_stop = True

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shares what is left, and finishes the node."""
        if self._federation is None:
            return
        if self.every_steps is not None:
            self._share(args, state, control)
        if self._is_over:
            self._federation.take_back()
        if self._finish:
            self._federation.finish()

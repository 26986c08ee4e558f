"""A node that never waits."""

from __future__ import annotations

from os import PathLike
from typing import Any

from flwr.common import Parameters

import peerfold

from ._node import ServerlessNode


class AsyncFederatedNode(ServerlessNode):
    """Publishes, folds what others have by now, and goes on."""

    def __init__(
        self,
        shared_folder: Any,
        strategy: Any,
        ignore_seen_models: bool = False,
        node_id: str | None = None,
        *,
        home: str | PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """A node that has sent nothing yet.

        Args:
            shared_folder: A folder of this package or of `peerfold`.
            strategy: Flower's strategy, by which is folded.
            ignore_seen_models: Whether to leave out updates that were folded already.
            node_id: What the node is called in what it keeps in the folder; drawn if it isn't given.
            home: Not in flwr-serverless: a directory of the node's own, from which it goes on after a crash.
            options: Not in flwr-serverless: see `peerfold.AsyncFederatedNode`.
        """
        super().__init__(shared_folder, strategy, node_id)
        self.ignore_seen_models = ignore_seen_models
        # There, no update is too old.
        options = {"ignore_seen": ignore_seen_models, "max_staleness": 10**6, **options}
        self.node = peerfold.AsyncFederatedNode(self._folder(), self._rule, home=home, **options)

    def update_parameters(
        self,
        local_parameters: Parameters,
        num_examples: int | None = None,
        metrics: dict[str, Any] | None = None,
        epoch: int | None = None,
        upload_only: bool = False,
    ) -> tuple[Parameters, dict[str, Any] | None]:
        """Publishes, and gives what was folded with its metrics: its own, if nobody else is there or `upload_only`."""
        if not isinstance(num_examples, int) or num_examples < 1:
            raise AssertionError(f"num_examples = {num_examples!r}: give a whole number from 1")
        return self._exchange(local_parameters, num_examples, metrics, upload_only)

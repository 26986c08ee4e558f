"""A node that waits for the others."""

from __future__ import annotations

from os import PathLike
from typing import Any

from flwr.common import Parameters

import peerfold

from ._node import ServerlessNode


class SyncFederatedNode(ServerlessNode):
    """Goes epoch by epoch with the others. Who doesn't answer within `deadline` seconds is gone on without."""

    def __init__(
        self,
        shared_folder: Any,
        strategy: Any,
        num_nodes: int,
        *,
        node_id: str | None = None,
        home: str | PathLike[str] | None = None,
        **options: Any,
    ) -> None:
        """A node that has sent nothing yet.

        Args:
            shared_folder: A folder of this package or of `peerfold`.
            strategy: Flower's strategy, by which is folded.
            num_nodes: Nodes in all.
            node_id: Not in flwr-serverless: what the node is called in what it keeps in the folder.
            home: Not in flwr-serverless: a directory of the node's own, from which it goes on after a crash.
            options: Not in flwr-serverless: see `peerfold.SyncFederatedNode`, such as `deadline`.
        """
        super().__init__(shared_folder, strategy, node_id)
        self.num_nodes = num_nodes
        if num_nodes is None:
            raise AssertionError("num_nodes must be specified")
        options = {"below_quorum": "alone", **options}
        self.node = peerfold.SyncFederatedNode(self._folder(), self._rule, num_nodes, home=home, **options)

    def update_parameters(
        self,
        local_parameters: Parameters,
        num_examples: int | None = None,
        metrics: dict[str, Any] | None = None,
        epoch: int | None = None,
        upload_only: bool = False,
    ) -> tuple[Parameters, dict[str, Any] | None] | None:
        """Publishes, waits for the others, and gives what was folded with its metrics; `None` with `upload_only`."""
        if not isinstance(epoch, int):
            raise ValueError(f"epoch {epoch} is not an int")
        exchanged = self._exchange(local_parameters, num_examples or 0, metrics, upload_only)
        return None if upload_only else exchanged

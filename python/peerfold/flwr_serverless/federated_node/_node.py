"""What asynchronous and synchronous nodes have in common: a node of Peerfold's, driven by `update_parameters`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

from flwr.common import Parameters, ndarrays_to_parameters, parameters_to_ndarrays

import peerfold

from ... import _metrics
from ..._strategy import Round, Update
from ...flower import FlowerRule, list_of, weights_of

LOGGER = logging.getLogger("peerfold.flwr_serverless")


class ServerlessRule(FlowerRule):
    """A strategy of Flower's that begins as it was made, and averages metrics where it doesn't do that itself."""

    def __init__(self, strategy: Any) -> None:
        """The rule that this strategy is."""
        super().__init__(strategy)
        self.upload_only = False
        self.folds = 0

    def begin_with(self, weights: dict[str, Any]) -> None:
        """A strategy that needs the first weights was given them when it was made."""

    def fold_updates(self, updates: list[Update], round: Round) -> tuple[Mapping[str, Any], Sequence[float] | None]:
        """Aggregates weights and metrics."""
        if self.upload_only:
            raise peerfold.StrategyError("not in this epoch: upload_only")
        updates = [replace(update, metrics=self._named(update.metrics)) for update in updates]
        folded = super().fold_updates(updates, round)
        self.metrics = self.metrics or averaged(updates)
        self.folds += 1
        return folded

    def _named(self, metrics: Mapping[str, float]) -> dict[str, float]:
        return {self.names.get(name, name): value for name, value in metrics.items()}


def averaged(updates: list[Update]) -> dict[str, Any]:
    """The means of the figures that all have, weighted by examples; how many examples, and how many nodes."""
    total = sum(update.num_examples for update in updates)
    metrics: dict[str, Any] = {"num_examples": total, "num_nodes": len(updates)}
    for name in updates[0].metrics:
        if name not in metrics and all(name in update.metrics for update in updates) and total > 0:
            metrics[name] = sum(update.metrics[name] * update.num_examples for update in updates) / total
    return metrics


class ServerlessNode:
    """A node whose program hands it Flower's parameters."""

    node: peerfold.FederatedNode

    def __init__(self, shared_folder: Any, strategy: Any, node_id: str | None) -> None:
        """What a node remembers."""
        self.node_id = node_id or str(uuid4())
        self.counter = 0
        self.strategy = strategy
        self.model_store = shared_folder
        self._rule = ServerlessRule(strategy)

    def _folder(self) -> peerfold.SharedFolder:
        folder = self.model_store
        if isinstance(folder, peerfold.SharedFolder):
            return folder
        own = getattr(folder, "peerfold_folder", None)
        if own is None:
            raise TypeError(f"{folder!r} is no shared folder: give an S3Folder, LocalFolder or InMemoryFolder")
        found: peerfold.SharedFolder = own()
        return found

    def _exchange(
        self, local: Parameters, num_examples: int, metrics: Mapping[str, Any] | None, upload_only: bool
    ) -> tuple[Parameters, dict[str, Any] | None]:
        """Publishes and folds. The local parameters and metrics, if nothing was folded."""
        own = None if metrics is None else dict(metrics)
        before, self._rule.upload_only = self._rule.folds, upload_only
        weights = weights_of(parameters_to_ndarrays(local))
        self._rule.names = _metrics.by_short(own or {})
        folded = self.node.update(weights, num_examples, _metrics.publishable(own), copy=False)
        if self._rule.folds == before:
            return local, own
        self.counter += 1
        LOGGER.info("Aggregated metrics: %s", self._rule.metrics)
        return ndarrays_to_parameters(list_of(folded)), dict(self._rule.metrics)

"""Federated learning without a server: nodes publish weights, fold their peers' and train on.

    import peerfold

    folder = peerfold.P2PFolder(federation="digits", bootstrap=["/ip4/192.0.2.1/tcp/4600/p2p/12D3Koo…"])
    node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home="node-a")
    weights = node.begin(weights)
    for epoch in node.epochs(10):
        weights = train(weights)
        weights = node.update(weights, num_examples=len(data), metrics={"loss": loss})
    node.finish()

Weights are a dict of names to arrays. `peerfold.torch`, `peerfold.keras`, `peerfold.transformers` and
`peerfold.lightning` do this for models of those frameworks, `peerfold.flower` for clients of Flower, and
`peerfold.flwr_serverless` has the names of flwr-serverless. None of them is needed, or imported with this module.
"""

from ._errors import (
    CheckpointError,
    Error,
    FolderError,
    ForkError,
    HomeError,
    MetricsError,
    QuorumError,
    SettingError,
    Stopped,
    StrategyError,
    UsageError,
    WeightsError,
)
from ._events import Event
from ._folders import InMemoryFolder, LocalFolder, P2PFolder, S3Folder, SharedFolder
from ._native import __version__
from ._node import AsyncFederatedNode, FederatedNode, Middle, SyncFederatedNode
from ._options import AsyncOptions, BucketOptions, NetworkOptions, SyncOptions
from ._strategies import *  # noqa: F403
from ._strategies import __all__ as _rules
from ._strategy import Round, Strategy, Update

__all__ = [
    "AsyncFederatedNode",
    "AsyncOptions",
    "BucketOptions",
    "CheckpointError",
    "Error",
    "Event",
    "FederatedNode",
    "FolderError",
    "ForkError",
    "HomeError",
    "InMemoryFolder",
    "LocalFolder",
    "MetricsError",
    "Middle",
    "NetworkOptions",
    "P2PFolder",
    "QuorumError",
    "Round",
    "S3Folder",
    "SettingError",
    "SharedFolder",
    "Stopped",
    "Strategy",
    "StrategyError",
    "SyncFederatedNode",
    "SyncOptions",
    "Update",
    "UsageError",
    "WeightsError",
    "__version__",
]
__all__ += _rules

"""The names and signatures of flwr-serverless 0.2.10, on Peerfold: change the import, and nothing else.

    from flwr.server.strategy import FedAvg
    from peerfold.flwr_serverless import AsyncFederatedNode, S3Folder
    from peerfold.flwr_serverless.keras import FlwrFederatedCallback

    node = AsyncFederatedNode(strategy=FedAvg(), shared_folder=S3Folder(directory="mybucket/experiment1"))
    model.fit(dataset, callbacks=[FlwrFederatedCallback(node, num_examples_per_epoch=steps * batch_size)])

What differs: weights go through Peerfold's own folders, checked and without pickle; a synchronous node whose peer has
died goes on without it after `deadline` seconds; and what is kept by key in a folder is bytes, JSON, or arrays.
"""

from .federated_node.async_federated_node import AsyncFederatedNode
from .federated_node.sync_federated_node import SyncFederatedNode
from .shared_folder.base_folder import SharedFolder
from .shared_folder.in_memory_folder import InMemoryFolder
from .shared_folder.local_folder import LocalFolder
from .shared_folder.s3_folder import S3FolderWithPickle
from .version import __version__

S3Folder = S3FolderWithPickle

__all__ = [
    "AsyncFederatedNode",
    "InMemoryFolder",
    "LocalFolder",
    "S3Folder",
    "S3FolderWithPickle",
    "SharedFolder",
    "SyncFederatedNode",
    "__version__",
]

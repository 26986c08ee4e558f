"""The callback for Keras."""

from .federated_learning_callback import FlwrFederatedCallback

__all__ = ["FlwrFederatedCallback"]

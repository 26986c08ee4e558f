"""What a node has to aggregate."""

from dataclasses import dataclass
from typing import Any

from flwr.common import Parameters


@dataclass
class Aggregatable:
    """Parameters, the examples that they were trained on, and figures."""

    parameters: Parameters
    num_examples: int
    metrics: dict[str, Any] | None

"""Runs a NumPyClient of Flower's without a server. Run it twice, in two terminals:

python flower_digits.py 0 /tmp/flower_digits
python flower_digits.py 1 /tmp/flower_digits
"""

from __future__ import annotations

import sys
from typing import Any

import digits
import numpy as np
from flwr.client import NumPyClient
from flwr.server.strategy import FedAvg

import peerfold
from peerfold import flower

number, directory = int(sys.argv[1]), sys.argv[2]
x, y, x_test, y_test = digits.load(number)


class Client(NumPyClient):
    """A linear classifier."""

    def get_parameters(self, config: dict[str, Any]) -> list[np.ndarray]:
        """The first weights, the same on all nodes."""
        return [np.zeros((64, 10), np.float32), np.zeros(10, np.float32)]

    def fit(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[list[np.ndarray], int, dict[str, Any]]:
        """Steps of gradient descent."""
        weight, bias = (array.copy() for array in parameters)
        for _ in range(config["steps"]):
            scores = x @ weight + bias
            chances = np.exp(scores - scores.max(axis=1, keepdims=True))
            chances /= chances.sum(axis=1, keepdims=True)
            chances[np.arange(len(y)), y] -= 1
            weight -= 0.5 * x.T @ chances / len(y)
            bias -= 0.5 * chances.mean(axis=0)
        return [weight, bias], len(y), {}

    def evaluate(self, parameters: list[np.ndarray], config: dict[str, Any]) -> tuple[float, int, dict[str, Any]]:
        """How many of the digits of all are recognised."""
        right = np.argmax(x_test @ parameters[0] + parameters[1], axis=1) == y_test
        return float(1 - right.mean()), len(y_test), {"accuracy": float(right.mean())}


def weighted_average(metrics: list[tuple[int, dict[str, Any]]]) -> dict[str, Any]:
    """The mean accuracy."""
    return {"accuracy": sum(count * each["accuracy"] for count, each in metrics) / sum(count for count, _ in metrics)}


strategy = FedAvg(on_fit_config_fn=lambda _: {"steps": 20}, evaluate_metrics_aggregation_fn=weighted_average)
folder = peerfold.LocalFolder(f"{directory}/shared")
history = flower.run(Client(), folder, strategy, 20, num_nodes=2, home=f"{directory}/home-{number}")
print(f"node {number}: accuracy {history.metrics_evaluate[20]['accuracy']:.3f}", flush=True)

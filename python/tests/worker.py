"""A node in a process of its own: learns the mean of its numbers, by steps with momentum. Settings come as JSON."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np

import peerfold


def tell(line: dict[str, Any]) -> None:
    """A line of output, in one write: two threads tell."""
    os.write(1, (json.dumps(line) + "\n").encode())


def folder(settings: dict[str, Any]) -> peerfold.SharedFolder:
    """The folder that the settings name."""
    kind, arguments = settings["folder"]
    return getattr(peerfold, kind)(**arguments)


def main() -> None:
    """The node's life."""
    settings = json.loads(sys.argv[1])
    common = {"home": settings["home"], "on_event": lambda event: tell(dict(event)), **settings.get("options", {})}
    if "num_nodes" in settings:
        node: peerfold.FederatedNode = peerfold.SyncFederatedNode(
            folder(settings), peerfold.FedAvg(), settings["num_nodes"], **common
        )
    else:
        node = peerfold.AsyncFederatedNode(folder(settings), peerfold.FedAvg(), **common)
    start = {"mean": np.zeros(3, np.float64), "count": np.array(0, np.int64)}
    zero = {"momentum": np.zeros(3, np.float64)}
    weights = node.begin(start, zero)
    momentum = (node.state or zero)["momentum"]
    for epoch in node.epochs(settings.get("epochs", 6)):
        draw = np.random.default_rng([settings["number"], epoch])
        for number in draw.normal(settings["number"], 1.0, (10, 3)):
            momentum = 0.9 * momentum + (weights["mean"] - number)
            weights["mean"] = weights["mean"] - 0.01 * momentum
        weights["count"] = weights["count"] + 10
        loss = float(np.square(momentum).mean())
        weights = node.update(weights, 10, {"loss": loss}, {"momentum": momentum})
        tell({"ended": epoch})
    if settings.get("abandon"):
        # The interpreter ends, and the node with it.
        return
    node.finish()
    tell({"result": weights["mean"].tobytes().hex(), "momentum": momentum.tobytes().hex()})


if __name__ == "__main__":
    main()

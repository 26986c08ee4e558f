"""What `mnist_torch.py` and `mnist_keras.py` share: the settings of `peerfold node`, and a node that has them."""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import mnist
import numpy as np

import peerfold

BATCH, LEARNING_RATE = 32, 0.001


def settings() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--federation", default="mnist", help="its name, the same on all nodes")
    parser.add_argument("--home", required=True, help="the node's own directory")
    parser.add_argument("--init", required=True, type=Path, help="first weights, from mnist.py: the same on all nodes")
    parser.add_argument("--data-dir", required=True, type=Path, help="with MNIST's four files")
    parser.add_argument("--bootstrap", action="append", default=[], help="a peer's multiaddr with /p2p/…")
    parser.add_argument("--listen", default="/ip4/127.0.0.1/tcp/0", help="where to listen")
    parser.add_argument("--partition", default="0/1", help="which part of the examples is this node's: I/N")
    parser.add_argument("--skew", type=float, default=0.0, help="the paper's label skew, from 0 to 1")
    parser.add_argument("--epochs", type=int, default=3, help="of the run")
    parser.add_argument("--steps-per-epoch", type=int, default=1200, help="of 32 examples each")
    parser.add_argument("--sync", action="store_true", help="go epoch by epoch with all others")
    parser.add_argument("--start-deadline", type=float, default=60.0, help="seconds to wait for the others at first")
    parser.add_argument("--out", type=Path, help="save the final weights there, as safetensors")
    given = parser.parse_args()
    given.number, given.nodes = map(int, given.partition.split("/"))
    return given


def federated(given: argparse.Namespace) -> peerfold.FederatedNode:
    """A node that writes its events as `peerfold node --json` does."""
    folder = peerfold.P2PFolder(given.federation, given.bootstrap, listen=[given.listen], no_mdns=True)
    # What nodes tell each other, so that one with other settings is told: under the names of `peerfold node`.
    alike = {
        "model": "mnist",
        "batch-size": BATCH,
        "lr": LEARNING_RATE,
        "steps-per-epoch": given.steps_per_epoch,
        "skew": f"{given.skew:g}",
        "seed": 0,
        "partitions": given.nodes,
        "strategy": "fedavg",
        "pace": "sync" if given.sync else "async",
    }
    common = {
        "home": given.home,
        "hyperparameters": alike,
        "distinct": {"partition": given.partition},
        "min_peers": given.nodes - 1,
        "start_deadline": given.start_deadline,
        "on_event": tell,
    }
    if given.sync:
        return peerfold.SyncFederatedNode(folder, peerfold.FedAvg(), given.nodes, **common)
    return peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), **common)


def tell(event: peerfold.Event) -> None:
    """Writes an event as a line of JSON."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    print(json.dumps({"time": now, **event}), flush=True)


class Data:
    """A node's examples, images of [N, 28, 28], and those by which all are tested."""

    def __init__(self, given: argparse.Namespace) -> None:
        """Reads them."""
        images, labels = mnist.load(given.data_dir, "train")
        mine = mnist.part(labels, given.number, given.nodes, given.skew)
        self.images, self.labels = images[mine], labels[mine]
        self.test = mnist.load(given.data_dir, "t10k")
        self._draw, self._order = np.random.default_rng(given.number), np.empty(0, np.int64)

    def batch(self) -> tuple[np.ndarray, np.ndarray]:
        """The next examples: all in one order, then all in another."""
        if len(self._order) < BATCH:
            self._order = self._draw.permutation(len(self.images))
        picked, self._order = self._order[:BATCH], self._order[BATCH:]
        return self.images[picked], self.labels[picked]

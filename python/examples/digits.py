"""The handwritten digits of the repository, of which each node has its own, skewed part: for the examples beside."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

FILE = Path(__file__).parents[2] / "assets" / "digits8x8" / "digits.csv.gz"


def load(node: int, nodes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One node's training images and labels, and the test images and labels of all: [N, 64] from 0 to 1, and [N]."""
    with gzip.open(FILE, "rt") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images, labels = table[:, :64] / 16, table[:, 64].astype(np.int64)
    held = np.arange(len(table)) % 5 == 0
    # Nine of ten examples of a digit belong to the node that owns it.
    owner = np.where(np.arange(len(table)) % 10 == 1, (labels + 1) % nodes, labels % nodes)
    mine = ~held & (owner == node)
    return images[mine], labels[mine], images[held], labels[held]

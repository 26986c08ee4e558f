"""Federates a linear classifier in plain NumPy. Run it twice, in two terminals:

    python own_loop.py 0 /tmp/own_loop
    python own_loop.py 1 /tmp/own_loop

End one with Ctrl-C and start it again: it goes on where it was.
"""

from __future__ import annotations

import sys

import digits
import numpy as np

import peerfold

number, directory = int(sys.argv[1]), sys.argv[2]
x, y, x_test, y_test = digits.load(number)
weights = {"weight": np.zeros((64, 10), np.float32), "bias": np.zeros(10, np.float32)}

folder = peerfold.LocalFolder(f"{directory}/shared")
node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home=f"{directory}/home-{number}", min_peers=1)
weights = node.begin(weights)
for epoch in node.epochs(20):
    for _ in range(20):
        scores = x @ weights["weight"] + weights["bias"]
        chances = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances /= chances.sum(axis=1, keepdims=True)
        loss = -np.log(chances[np.arange(len(y)), y] + 1e-9).mean()
        chances[np.arange(len(y)), y] -= 1
        weights["weight"] -= 0.5 * x.T @ chances / len(y)
        weights["bias"] -= 0.5 * chances.mean(axis=0)
    weights = node.update(weights, num_examples=len(y), metrics={"loss": loss})
    accuracy = (np.argmax(x_test @ weights["weight"] + weights["bias"], axis=1) == y_test).mean()
    print(f"node {number}, epoch {epoch}: accuracy {accuracy:.3f}", flush=True)
node.finish()

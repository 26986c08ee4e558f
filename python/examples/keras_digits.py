"""Federates a small network in Keras 3, on any backend. Run it twice, in two terminals:

KERAS_BACKEND=jax python keras_digits.py 0 /tmp/keras_digits
KERAS_BACKEND=jax python keras_digits.py 1 /tmp/keras_digits
"""

from __future__ import annotations

import sys

import digits
import keras

import peerfold
from peerfold.keras import FederatedCallback

number, directory = int(sys.argv[1]), sys.argv[2]
x, y, x_test, y_test = digits.load(number)
keras.utils.set_random_seed(0)  # Equal first weights on all nodes.
model = keras.Sequential(
    [
        keras.layers.Input(shape=(64,)),
        keras.layers.Dense(32, activation="relu", name="hidden"),
        keras.layers.Dense(10, name="scores"),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, metrics=["accuracy"])

folder = peerfold.LocalFolder(f"{directory}/shared")
node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home=f"{directory}/home-{number}", min_peers=1)
model.fit(x, y, epochs=10, verbose=0, callbacks=[FederatedCallback(node, num_examples=len(x))])
print(f"node {number}: accuracy {model.evaluate(x_test, y_test, verbose=0)[1]:.3f}", flush=True)

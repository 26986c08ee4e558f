"""The paper's CNN for MNIST in Keras 3, with nodes in PyTorch and in burn: see "Mixed federations" in the README."""

from __future__ import annotations

import keras
import mnist
import mnist_node

from peerfold.keras import FederatedCallback, load, weights
from peerfold.mappings import mnist as mapping

given = mnist_node.settings()
data = mnist_node.Data(given)
x_test, y_test = data.test[0][..., None], data.test[1]
model = keras.Sequential(
    [
        keras.layers.Input(shape=(28, 28, 1)),
        keras.layers.Conv2D(32, 4, activation="relu", name="conv1"),
        keras.layers.MaxPooling2D(2),
        keras.layers.Conv2D(16, 4, activation="relu", name="conv2"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, name="dense"),
    ]
)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(mnist_node.LEARNING_RATE), loss, metrics=["accuracy"])
# Equal first weights on all nodes: the file has them as PyTorch has.
load(model, mapping.to_shared("torch", mnist.read(given.init)), mapping)


def batches():
    """Without end: `fit` says how many are an epoch."""
    while True:
        x, y = data.batch()
        yield x[..., None], y


class Evaluation(keras.callbacks.Callback):
    """Says how good the folded weights are."""

    def on_epoch_end(self, epoch, logs=None):
        """Comes after the fold, as its callback does."""
        node.evaluated({"accuracy": model.evaluate(x_test, y_test, batch_size=256, verbose=0)[1]})


node = mnist_node.federated(given)
federation = FederatedCallback(
    node, given.steps_per_epoch * mnist_node.BATCH, metrics={"loss": "loss"}, mapping=mapping
)
model.fit(
    batches(),
    epochs=given.epochs,
    steps_per_epoch=given.steps_per_epoch,
    shuffle=False,
    verbose=0,
    callbacks=[federation, Evaluation()],
)
if given.out:
    mnist.write(given.out, mapping.from_shared("torch", weights(model, mapping)))

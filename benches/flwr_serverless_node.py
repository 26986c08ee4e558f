"""Trains one flwr-serverless node with Keras and prints one JSON line: against_flwr_serverless.py runs it.

With --listen it is a node of Peerfold instead, in the same program, for python_mnist.py.
"""

import argparse
import gzip
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

BATCH = 32


def read(directory, name, header):
    for path in (directory / name, directory / f"{name}.gz"):
        if path.is_file():
            with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
                return np.frombuffer(file.read(), np.uint8, offset=header)
    raise SystemExit(f"{directory} has no {name}")


def mnist(directory, part):
    x = read(directory, f"{part}-images-idx3-ubyte", 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return x, read(directory, f"{part}-labels-idx1-ubyte", 8).astype(np.int64)


def flwr_serverless(folder, examples):
    """A callback of flwr-serverless."""
    from flwr.server.strategy import FedAvg
    from flwr_serverless import AsyncFederatedNode, LocalFolder
    from flwr_serverless.keras import FlwrFederatedCallback

    # A node that meets a file in the making waits for 3 s by default.
    folder = LocalFolder(folder, retry_sleep_time=0.05, max_retry=60)
    node = AsyncFederatedNode(shared_folder=folder, strategy=FedAvg())
    return FlwrFederatedCallback(node, num_examples_per_epoch=examples), lambda: node.counter


def peerfold(home, listen, bootstrap, nodes, examples):
    """A callback of Peerfold."""
    import peerfold
    from peerfold.keras import FederatedCallback

    folded = []
    folder = peerfold.P2PFolder("against", bootstrap, listen=[listen], no_mdns=True)
    node = peerfold.AsyncFederatedNode(folder, peerfold.FedAvg(), home=home, min_peers=nodes - 1,
                                       on_event=lambda event: event.name == "folded" and folded.append(event))
    return FederatedCallback(node, num_examples=examples, metrics={"loss": "loss"}), lambda: len(folded)


class Began(keras.callbacks.Callback):
    """Notes when training begins: both nodes are there."""

    def on_train_begin(self, logs=None):
        self.began = time.time()


class Evaluation(keras.callbacks.Callback):
    """Evaluates after the fold: `validation_data` would do it before."""

    def __init__(self, x, y):
        super().__init__()
        self.x, self.y, self.accuracies = x, y, []

    def on_epoch_end(self, epoch, logs=None):
        # Peerfold's batch is 256 too.
        self.accuracies.append(self.model.evaluate(self.x, self.y, batch_size=256, verbose=0)[1])
        self.ended = time.time()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind in ("data-dir", pathlib.Path), ("folder", str), ("index", int), ("nodes", int), ("skew", float):
        parser.add_argument(f"--{name}", type=kind, required=True)
    parser.add_argument("--listen")
    parser.add_argument("--bootstrap", action="append", default=[])
    for name in "epochs", "steps-per-epoch", "threads":
        parser.add_argument(f"--{name}", type=int, required=True)
    arguments = parser.parse_args()

    tf.config.threading.set_intra_op_parallelism_threads(arguments.threads)
    tf.config.threading.set_inter_op_parallelism_threads(arguments.threads)
    x, y = mnist(arguments.data_dir, "train")
    test = mnist(arguments.data_dir, "t10k")

    # Peerfold's split, but for the generator: all nodes draw the same.
    rng = np.random.default_rng(0)
    owners = np.concatenate([[node] * len(part) for node, part in
                             enumerate(np.array_split(np.arange(10), arguments.nodes))])
    skewed, anyone = rng.random(len(y)) < arguments.skew, rng.integers(arguments.nodes, size=len(y))
    own = np.where(skewed, owners[y], anyone) == arguments.index
    x, y = x[own], y[own]

    # Equal first weights on all nodes, as Peerfold has them.
    keras.utils.set_random_seed(0)
    image = keras.Input((28, 28, 1))
    hidden = keras.layers.Conv2D(32, 4, activation="relu")(image)
    hidden = keras.layers.MaxPooling2D()(hidden)
    hidden = keras.layers.Conv2D(16, 4, activation="relu")(hidden)
    output = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(hidden))
    model = keras.Model(image, output)
    # With one step an execution and a Python generator, as in flwr-serverless's example, it takes 1.4 to 1.9 times
    # as long.
    model.compile(optimizer=keras.optimizers.Adam(1e-3), loss="sparse_categorical_crossentropy", metrics=["accuracy"],
                  steps_per_execution=min(20, arguments.steps_per_epoch))
    options = tf.data.Options()
    options.threading.private_threadpool_size = 1
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x), seed=arguments.index).repeat()
    data = data.batch(BATCH).prefetch(2).with_options(options)

    examples = arguments.steps_per_epoch * BATCH
    if arguments.listen:
        federation, folds = peerfold(arguments.folder, arguments.listen, arguments.bootstrap, arguments.nodes, examples)
    else:
        federation, folds = flwr_serverless(arguments.folder, examples)
    began, evaluation = Began(), Evaluation(*test)
    model.fit(data, epochs=arguments.epochs, steps_per_epoch=arguments.steps_per_epoch,
              callbacks=[federation, began, evaluation], verbose=0)
    print(json.dumps({"began": began.began, "ended": evaluation.ended, "accuracies": evaluation.accuracies,
                      "parameters": model.count_params(), "folded": folds()}))


if __name__ == "__main__":
    main()

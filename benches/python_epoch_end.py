"""The end of an epoch in Python, beside flwr-serverless: 100 MB of weights, two nodes, a directory, Flower's FedAvg.

    python/build-wheel
    python -m pip install python/dist/peerfold-*.whl flwr==1.42.0 boto3
    python -m pip install --no-deps flwr-serverless==0.2.10
    python benches/python_epoch_end.py

Each program's node is a process of its own, in which another node has published before and publishes again before every
epoch. What is timed is one node's `update_parameters`, or `update`: publish, fetch, fold. They are taken in turn.
"""

import json
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

PROGRAMS = ["peerfold", "peerfold.flwr_serverless", "flwr_serverless"]
ARRAYS, ELEMENTS, EPOCHS = 10, 2_500_000, 5


def exchanges(program, directory):
    """Two functions that end an epoch: the other node's, and the measured one's."""
    import numpy as np

    draw = np.random.default_rng(0)
    arrays = [draw.normal(size=ELEMENTS).astype(np.float32) for _ in range(ARRAYS)]
    if program == "peerfold":
        import peerfold

        nodes = [peerfold.AsyncFederatedNode(peerfold.LocalFolder(directory), home=f"{directory}/{n}") for n in "ab"]
        weights = {str(number): array for number, array in enumerate(arrays)}
        for node in nodes:
            node.begin(weights, copy=False)
        return [lambda value, node=node: node.update(changed(weights, value), 10, {"loss": 1.0}, copy=False)
                for node in nodes]
    from importlib import import_module

    from flwr.common import ndarrays_to_parameters, parameters_to_ndarrays
    from flwr.server.strategy import FedAvg

    package = import_module(program)

    def end(node, value):
        for array in arrays:
            array[0] = value
        updated, _ = node.update_parameters(ndarrays_to_parameters(arrays), num_examples=10, metrics={"loss": 1.0})
        return parameters_to_ndarrays(updated)

    nodes = [package.AsyncFederatedNode(package.LocalFolder(directory=directory), FedAvg()) for _ in range(2)]
    return [lambda value, node=node: end(node, value) for node in nodes]


def changed(weights, value):
    """Other weights than before, in every array."""
    for array in weights.values():
        array[0] = value
    return weights


def measure(program):
    """Seconds of each epoch's end of one node, and the process's peak memory in MB, and that before."""
    with tempfile.TemporaryDirectory() as directory:
        other, mine = exchanges(program, directory)
        seconds = []
        for epoch in range(EPOCHS + 1):
            other(epoch)
            began = time.perf_counter()
            mine(epoch + 0.5)
            seconds.append(time.perf_counter() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    # The first has nothing to compare with.
    print(json.dumps({"seconds": seconds[1:], "peak": peak}))


def main():
    """Measures all, in turn, three times."""
    if len(sys.argv) == 2:
        return measure(sys.argv[1])
    found = {program: [] for program in PROGRAMS}
    for _ in range(3):
        for program in PROGRAMS:
            command = [sys.executable, str(pathlib.Path(__file__)), program]
            run = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            found[program].append(json.loads(run.stdout.splitlines()[-1]))
    print("| program | seconds, median (least–most) | peak memory, MB |\n| --- | --- | --- |")
    for program, runs in found.items():
        seconds = [second for run in runs for second in run["seconds"]]
        peak = statistics.median(run["peak"] for run in runs)
        print(f"| {program} | {statistics.median(seconds):.2f} ({min(seconds):.2f}–{max(seconds):.2f}) | {peak:.0f} |")


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Compares Peerfold with flwr-serverless in the MNIST experiment of its paper (arXiv 2310.15329).

Needs Python 3.11 or 3.12 and cargo, and installs flwr-serverless with Keras on TensorFlow from PyPI under
target/flwr-serverless the first time (1.4 GB). Let nothing else run meanwhile.

Two nodes train at the same time, each a process of one thread, and meet in a shared directory: label skew 0.9, the
paper's CNN, Adam, batches of 32, asynchronous FedAvg after each epoch, then an evaluation of the 10,000 test images.
"""

import argparse
import os
import pathlib
import statistics
import tempfile

import against

# The newest that flwr 1.6.0 lets in, which flwr-serverless wants: it holds protobuf below 4 and numpy below 2.
PACKAGES = ["flwr-serverless==0.2.10", "flwr==1.6.0", "keras==3.15.1", "tensorflow-cpu==2.19.1"]
NODES, SKEW = 2, "0.9"


def flwr_serverless(python, data, epochs, steps, scratch, load):
    program = str(against.ROOT / "benches" / "flwr_serverless_node.py")
    command = [str(python), program, "--data-dir", str(data), "--folder", str(scratch / "folder"), "--threads", "1",
               "--nodes", str(NODES), "--skew", SKEW, "--epochs", str(epochs), "--steps-per-epoch", str(steps)]
    with load.watched():
        results, seconds = against.together([[*command, "--index", str(node)] for node in range(NODES)], limit=7200)
    results = [lines[-1] for lines in results]
    training = max(result["ended"] for result in results) - min(result["began"] for result in results)
    return {"seconds": seconds, "training": training, "accuracies": [result["accuracies"][-1] for result in results]}


def peerfold(program, data, epochs, steps, scratch, load):
    commands = [[program, "node", "--federation", "against-flwr-serverless", "--folder", (scratch / "folder").as_uri(),
                 "--home", str(scratch / f"home{node}"), "--out", str(scratch / f"{node}.safetensors"), "--json",
                 "--dataset", "mnist", "--data-dir", str(data), "--partition", f"{node}/{NODES}", "--skew", SKEW,
                 "--epochs", str(epochs), "--steps-per-epoch", str(steps), "--threads", "1"] for node in range(NODES)]
    # What somebody has set for other nodes is not meant for these.
    env = {name: value for name, value in os.environ.items() if not name.startswith("PEERFOLD_")}
    with load.watched():
        results, seconds = against.together(commands, limit=7200, env=env)
    ends = [event for lines in results for event in lines if event["event"] == "finished"]
    if len(ends) != NODES:
        against.fail("a Peerfold node did not finish")
    return {"seconds": seconds, "training": max(end["seconds"] for end in ends),
            "accuracies": [end["metrics"]["accuracy"] for end in ends]}


def data_directory(given):
    """The one with the files themselves: DIR or DIR/mnist."""
    if not given:
        against.fail("where is MNIST? --data-dir DIR or PEERFOLD_DATA")
    for directory in (pathlib.Path(given).resolve(), pathlib.Path(given).resolve() / "mnist"):
        if list(directory.glob("train-images-idx3-ubyte*")):
            return directory
    against.fail(f"neither {given} nor {given}/mnist has MNIST's train-images-idx3-ubyte")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", metavar="DIR", default=os.environ.get("PEERFOLD_DATA"),
                        help="with MNIST's four IDX files, plain or .gz, or a folder mnist of them; PEERFOLD_DATA")
    parser.add_argument("--turns", type=against.positive(int), default=1, help="of both sides; default 1")
    parser.add_argument("--epochs", type=against.positive(int), default=3, help="default 3, as in the paper")
    parser.add_argument("--steps-per-epoch", type=against.positive(int), default=1200, help="default 1200")
    parser.add_argument("--peerfold", metavar="FILE", type=against.program, help="the program, if it is built already")
    arguments = parser.parse_args()

    data = data_directory(arguments.data_dir)
    python = against.environment("flwr-serverless", PACKAGES)
    program = arguments.peerfold or against.build(["build", "--release", "--bin", "peerfold"], "peerfold")
    load = against.Load()
    sides = {"flwr-serverless": (flwr_serverless, python), "Peerfold": (peerfold, program)}
    results = {side: [] for side in sides}
    for turn in range(arguments.turns):
        for side, (measure, program) in sides.items():
            against.say(f"turn {turn + 1}/{arguments.turns}: {side}")
            with tempfile.TemporaryDirectory() as scratch:
                work = data, arguments.epochs, arguments.steps_per_epoch, pathlib.Path(scratch), load
                results[side].append(measure(program, *work))

    def all_of(side, key):
        return [result[key] for result in results[side]]

    rows = [["", "seconds, start to end", "training alone", *(f"accuracy of node {node}" for node in range(NODES))]]
    for side in sides:
        seconds = [f"{statistics.median(all_of(side, key)):.1f}" for key in ("seconds", "training")]
        accuracies = [f"{statistics.median(of_node):.4f}" for of_node in zip(*all_of(side, "accuracies"))]
        rows.append([side, *seconds, *accuracies])
    ratios = [against.paired(*(all_of(side, key) for side in sides)) for key in ("seconds", "training")]
    rows.append(["ratio", *ratios, *[""] * NODES])
    versions = ", ".join(package.replace("==", " ") for package in PACKAGES)
    print(f"""
{NODES} nodes of one thread each, {arguments.epochs} epochs of {arguments.steps_per_epoch} steps, skew {SKEW}:

{against.table(rows)}

Medians; turns: {arguments.turns}. Ratio: of flwr-serverless's time to Peerfold's, the median of the turns' ratios and
the least and greatest of them. Training alone, with the folds and evaluations: flwr-serverless without starting,
importing and reading the data, Peerfold as its nodes say it. {load}
{against.machine(versions)}""")


if __name__ == "__main__":
    against.run(main)

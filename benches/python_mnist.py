"""The MNIST experiment of flwr-serverless' paper (arXiv 2310.15329) from Python: PyTorch nodes over `P2PFolder`, beside
flwr-serverless with Keras.

    python/build-wheel
    python -m pip install python/dist/peerfold-*.whl torch
    python benches/python_mnist.py --data-dir DIR

Needs Python 3.11 or 3.12, and installs flwr-serverless with Keras on TensorFlow from PyPI under target/flwr-serverless
the first time (1.4 GB). Let nothing else run meanwhile.

Two nodes train at the same time, each a process of one thread: label skew 0.9, the paper's CNN, Adam, batches of 32,
asynchronous FedAvg after each epoch, then an evaluation of the 10,000 test images. Peerfold's are
`python/examples/mnist_torch.py` and meet over TCP; flwr-serverless' meet in a directory, and its Keras is tuned, with
`tf.data` and 20 steps an execution (`flwr_serverless_node.py`). So that frameworks and federations can be told apart,
that program is run with Peerfold's callback and `P2PFolder`, too.
"""

import argparse
import datetime
import os
import pathlib
import resource
import socket
import statistics
import sys
import tempfile

import against
from against_flwr_serverless import NODES, PACKAGES, SKEW, data_directory, flwr_serverless

EXAMPLES = against.ROOT / "python" / "examples"


def network(scratch):
    """Homes of nodes that meet on the loopback, and where they listen and find each other, as options."""
    import peerfold

    homes = [str(scratch / f"home{node}") for node in range(NODES)]
    with peerfold.AsyncFederatedNode(peerfold.P2PFolder("against"), home=homes[0]) as first, socket.socket() as probe:
        peer = first.peer_id
        probe.bind(("127.0.0.1", 0))
        address = f"/ip4/127.0.0.1/tcp/{probe.getsockname()[1]}"
    options = [["--listen", address], ["--listen", "/ip4/127.0.0.1/tcp/0", "--bootstrap", f"{address}/p2p/{peer}"]]
    return list(zip(homes, options))


def keras_nodes(python, data, epochs, steps, scratch, load):
    import peerfold

    # The package alone, not what lies beside it: NumPy, for example.
    packages = scratch / "packages"
    packages.mkdir()
    (packages / "peerfold").symlink_to(pathlib.Path(peerfold.__file__).resolve().parent)
    program = str(against.ROOT / "benches" / "flwr_serverless_node.py")
    common = [str(python), program, "--data-dir", str(data), "--threads", "1", "--nodes", str(NODES), "--skew", SKEW,
              "--epochs", str(epochs), "--steps-per-epoch", str(steps)]
    commands = [[*common, "--index", str(node), "--folder", home, *options]
                for node, (home, options) in enumerate(network(scratch))]
    with load.watched():
        results, seconds = against.together(commands, 7200, {**os.environ, "PYTHONPATH": str(packages)})
    results = [lines[-1] for lines in results]
    if not any(result["folded"] for result in results):
        against.fail("no Peerfold node has folded another's weights")
    training = max(result["ended"] for result in results) - min(result["began"] for result in results)
    return {"seconds": seconds, "training": training, "accuracies": [result["accuracies"][-1] for result in results]}


def torch_nodes(python, data, epochs, steps, scratch, load):
    weights = str(scratch / "first.safetensors")
    against.together([[python, "-c", "import mnist, pathlib, sys; print('{}'); "
                       "mnist.write(pathlib.Path(sys.argv[1]), mnist.first())", weights]], 60,
                     {**os.environ, "PYTHONPATH": str(EXAMPLES)})
    common = [python, str(EXAMPLES / "mnist_torch.py"), "--federation", "against", "--init", weights,
              "--data-dir", str(data), "--skew", SKEW, "--epochs", str(epochs), "--steps-per-epoch", str(steps)]
    commands = [[*common, "--home", home, "--partition", f"{node}/{NODES}", *options]
                for node, (home, options) in enumerate(network(scratch))]
    with load.watched():
        results, seconds = against.together(commands, limit=7200)

    def times(name):
        events = [event for lines in results for event in lines if event["event"] == name]
        return [datetime.datetime.fromisoformat(event["time"]).timestamp() for event in events]

    ends = [event for lines in results for event in lines if event["event"] == "finished"]
    if len(ends) != NODES or not any(event["event"] == "folded" for lines in results for event in lines):
        against.fail("a Peerfold node did not finish, or none has folded another's weights")
    return {"seconds": seconds, "training": max(times("epoch_done")) - min(times("started")),
            "accuracies": [end["metrics"]["accuracy"] for end in ends]}


def processor_seconds():
    """Of all programs that this one has run."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", metavar="DIR", default=os.environ.get("PEERFOLD_DATA"),
                        help="with MNIST's four IDX files, plain or .gz, or a folder mnist of them; PEERFOLD_DATA")
    parser.add_argument("--turns", type=against.positive(int), default=1, help="of all sides; default 1")
    parser.add_argument("--epochs", type=against.positive(int), default=3, help="default 3, as in the paper")
    parser.add_argument("--steps-per-epoch", type=against.positive(int), default=1200, help="default 1200")
    arguments = parser.parse_args()
    try:
        import peerfold
        import torch
    except ImportError as error:
        against.fail(f"{error}: install the wheel and PyTorch first, as above in this file")

    data = data_directory(arguments.data_dir)
    theirs = against.environment("flwr-serverless", PACKAGES)
    sides = {"flwr-serverless, Keras": (flwr_serverless, theirs), "Peerfold, the same Keras": (keras_nodes, theirs),
             "Peerfold, PyTorch": (torch_nodes, sys.executable)}
    results = {side: [] for side in sides}
    for turn in range(arguments.turns):
        for side, (measure, python) in sides.items():
            against.say(f"turn {turn + 1}/{arguments.turns}: {side}")
            with tempfile.TemporaryDirectory() as scratch:
                work = data, arguments.epochs, arguments.steps_per_epoch, pathlib.Path(scratch), LOAD
                before = processor_seconds()
                result = measure(python, *work)
                results[side].append({**result, "processor": processor_seconds() - before})

    def all_of(side, key):
        return [result[key] for result in results[side]]

    rows = [["", *(f"accuracy of node {node}" for node in range(NODES)), "seconds per epoch", "start to end",
             "processor seconds"]]
    for side in sides:
        accuracies = [f"{statistics.median(of_node):.4f}" for of_node in zip(*all_of(side, "accuracies"))]
        epoch = statistics.median(all_of(side, "training")) / arguments.epochs
        seconds = [f"{statistics.median(all_of(side, key)):.1f}" for key in ("seconds", "processor")]
        rows.append([side, *accuracies, f"{epoch:.2f}", *seconds])
    first, *others = sides
    for side in others:
        ratios = [against.paired(all_of(first, key), all_of(side, key)) for key in ("training", "seconds", "processor")]
        rows.append([f"ratio to {side}", *[""] * NODES, *ratios])
    versions = ", ".join(package.replace("==", " ") for package in [*PACKAGES, f"torch=={torch.__version__}"])
    print(f"""
{NODES} nodes of one thread each, {arguments.epochs} epochs of {arguments.steps_per_epoch} steps, skew {SKEW}:

{against.table(rows)}

Medians; turns: {arguments.turns}. An epoch is training, fold and evaluation, from the first node's start, when all is
imported and read, to the last one's end; processor seconds are those of both nodes from start to end. Ratio: of
flwr-serverless's time to Peerfold's, the median of the turns' ratios and the least and greatest of them. {LOAD}
{against.machine(versions, f"peerfold {peerfold.__version__}")}""")


LOAD = against.Load()

if __name__ == "__main__":
    against.run(main)

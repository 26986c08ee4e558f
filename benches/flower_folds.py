"""Folds random updates with Flower's own functions for a while, and prints one JSON line: against_flower.py runs it."""

import argparse
import importlib.metadata
import json
import time

import numpy as np
from flwr.server.strategy import aggregate

# As `fedtrimmedavg` has it by default.
TRIMMED = 0.2


def random(seed, tensors):
    """The same update as `random` in benches/fold.rs makes: steps of one linear congruential generator."""
    state = np.empty(sum(tensors), np.uint32)
    factor, addend = 1664525, 1013904223
    state[0] = ((seed * 0x9E3779B9 | 1) * factor + addend) % 2**32
    done = 1
    while done < state.size:
        # `factor` and `addend` make `done` steps at once.
        ahead = min(done, state.size - done)
        state[done:done + ahead] = state[:ahead] * np.uint32(factor) + np.uint32(addend)
        factor, addend = factor * factor % 2**32, (factor * addend + addend) % 2**32
        done += ahead
    elements = state.view(np.int32).astype(np.float32) / np.float32(2**31)
    return np.split(elements, np.cumsum(tensors)[:-1])


def message_krum(results):
    """Krum of Flower's Message API, whose distances come from one matrix product of the decoded updates."""
    from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
    from flwr.serverapp.strategy.multikrum import select_multikrum
    from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords

    def record(weights, num_examples):
        arrays = ArrayRecord({f"t{number}": Array(tensor) for number, tensor in enumerate(weights)})
        return RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": num_examples})})

    # Records hold the arrays encoded: these themselves would only take memory.
    sent = [record(*results.pop(0)) for _ in range(len(results))]

    def fold():
        selected = select_multikrum(sent, num_malicious_nodes=0, num_nodes_to_select=1)
        return [array.numpy() for array in aggregate_arrayrecords(selected, "num-examples").values()]

    return fold


# By rule and function: of the updates with their numbers of examples, they make what is timed.
FOLDS = {
    "fedavg": {"aggregate": lambda results: lambda: aggregate.aggregate(results)},
    "fedmedian": {"aggregate_median": lambda results: lambda: aggregate.aggregate_median(results)},
    "fedtrimmedavg": {
        "aggregate_trimmed_avg": lambda results: lambda: aggregate.aggregate_trimmed_avg(results, TRIMMED),
    },
    "krum": {
        "aggregate_krum": lambda results: lambda: aggregate.aggregate_krum(results, num_malicious=0, to_keep=0),
        "select_multikrum": message_krum,
    },
}


def resident(field):
    """VmRSS or VmHWM, its peak, in bytes."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(field))


def peak_is_now():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        return resident("VmRSS")
    except OSError:
        return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rule", choices=FOLDS, required=True)
    parser.add_argument("--function", required=True, help="which of Flower's for the rule")
    parser.add_argument("--tensors", type=int, nargs="+", required=True, help="coordinates of each")
    parser.add_argument("--num-examples", type=int, nargs="+", required=True, help="of each update")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()

    results = [(random(seed, arguments.tensors), num_examples)
               for seed, num_examples in enumerate(arguments.num_examples)]
    fold = FOLDS[arguments.rule][arguments.function](results)
    # As in benches/fold.rs: the memory of a fold that isn't timed.
    before = peak_is_now()
    result = fold()
    peak = None if before is None else resident("VmHWM") - before
    sums = [sum(float(np.sum(of(tensor), dtype=np.float64)) for tensor in result) for of in (lambda x: x, np.abs)]
    del result

    seconds = []
    for _ in range(arguments.turns):
        began = time.perf_counter()
        result = fold()
        seconds.append(time.perf_counter() - began)
        del result
    print(json.dumps({
        "rule": arguments.rule,
        "function": arguments.function,
        "seconds": seconds,
        "peak_growth_bytes": peak,
        "sums": sums,
        "version": importlib.metadata.version("flwr"),
        "numpy": np.__version__,
    }))


if __name__ == "__main__":
    main()

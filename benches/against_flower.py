#!/usr/bin/env python3
"""Compares folding with Flower: FedAvg, median, trimmed mean and Krum over the same arrays.

Needs Python 3.11 or 3.12 and cargo, and installs Flower with NumPy from PyPI under target/flower-<version> the first
time (160 to 300 MB). Let nothing else run meanwhile, and have 8 GB of memory free for Krum.

Both sides run in turn, each time as fresh processes: f32 updates of 25 M coordinates in memory, 8 of them for the mean,
9 for median and trimmed mean, 20 for Krum. Of Flower only the functions of flwr.server.strategy.aggregate are timed, on
decoded arrays; of Flower 1.41 also the Krum of its Message API, which is another and reads encoded ones. That both
sides have folded the same to the same is checked.
"""

import argparse
import os
import statistics

import against

# The newest NumPy that each lets in, or was tested with.
PACKAGES = {
    "1.6.0": ["flwr==1.6.0", "numpy==1.26.4"],
    "1.41.0": ["flwr==1.41.0", "numpy==2.4.6"],
}
# How many times as quick as Flower 1.6 folding is to be.
AIMS = {"fedavg": 6, "fedmedian": 10, "fedtrimmedavg": 10, "krum": 5}
FUNCTIONS = {
    "fedavg": ["aggregate"],
    "fedmedian": ["aggregate_median"],
    "fedtrimmedavg": ["aggregate_trimmed_avg"],
    "krum": ["aggregate_krum"],
}
MESSAGE_API = {"1.41.0": {"krum": ["select_multikrum"]}}
# What Flower's Krum takes, with its updates, in multiples of them; the others take less.
MEMORY = 3.2
# Sums over the result's coordinates, relative to that of their absolute values: both sides round to f32.
TOLERANCE = 1e-6
# Of each process, after a fold that is not timed.
FOLDS = 3


def measure(command, load):
    with load.watched():
        results, _ = against.together([command], limit=1800, env={**os.environ, "FLWR_TELEMETRY_ENABLED": "0"})
    return results[0][-1]


def check_same(rule, ours, theirs):
    scale = ours["sums"][1]
    if any(abs(a - b) > TOLERANCE * scale for a, b in zip(ours["sums"], theirs["sums"])):
        against.fail(f"{rule}: the results differ: their sums are {ours['sums']} and, of Flower, {theirs['sums']}")


def check_memory(rule, updates, coordinates):
    needed = MEMORY * updates * coordinates * 4
    try:
        with open("/proc/meminfo") as file:
            free = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return
    if free < needed:
        against.fail(f"{rule} takes up to {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: give --coordinates")


def gigabytes(sizes):
    known = [size for size in sizes if size is not None]
    return f"{statistics.median(known) / 1e9:.2f} GB" if known else ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rules", nargs="+", choices=AIMS, default=list(AIMS))
    parser.add_argument("--flwr", choices=PACKAGES, default="1.6.0", help="Flower's version; default 1.6.0")
    parser.add_argument("--turns", type=against.positive(int), default=5, help="of both sides; default 5")
    parser.add_argument("--coordinates", type=against.positive(int), default=25_000_000, help="default 25,000,000")
    parser.add_argument("--peerfold", metavar="FILE", type=against.program,
                        help="the bench's executable, if it is built already")
    arguments = parser.parse_args()

    for rule in arguments.rules:
        check_memory(rule, 20 if rule == "krum" else 9, arguments.coordinates)
    python = against.environment(f"flower-{arguments.flwr}", PACKAGES[arguments.flwr])
    program = arguments.peerfold or against.build(["bench", "--bench", "fold", "--no-run"], "fold")
    load = against.Load()

    def ours(rule):
        return [program, rule, "--coordinates", str(arguments.coordinates), "--turns", str(FOLDS), "--json"]

    def theirs(rule, function, of):
        tensors, examples = ([str(number) for number in of[key]] for key in ("tensors", "num_examples"))
        return [str(python), str(against.ROOT / "benches" / "flower_folds.py"), "--rule", rule, "--function", function,
                "--turns", str(FOLDS), "--tensors", *tensors, "--num-examples", *examples]

    rows = [["", "Flower's", "updates", "Flower s", "GB/s", "memory", "Peerfold s", "GB/s", "memory", "ratio", "aim"]]
    for rule in arguments.rules:
        for function in FUNCTIONS[rule] + MESSAGE_API.get(arguments.flwr, {}).get(rule, []):
            results = {"Flower": [], "Peerfold": []}
            for turn in range(arguments.turns):
                # Peerfold says first of what updates it folds, then each side goes first every other time.
                for side in list(results)[:: 1 if turn % 2 else -1]:
                    command = ours(rule) if side == "Peerfold" else theirs(rule, function, results["Peerfold"][0])
                    results[side].append(measure(command, load))
                    seconds = statistics.median(results[side][-1]["seconds"])
                    against.say(f"{rule}, turn {turn + 1}/{arguments.turns}: {side} {seconds:.3f} s")
                check_same(rule, results["Peerfold"][-1], results["Flower"][-1])

            times = {side: [statistics.median(one["seconds"]) for one in results[side]] for side in results}
            first = results["Peerfold"][0]
            row = [f"`{rule}`", f"`{function}`", str(len(first["num_examples"]))]
            for side in results:
                seconds = statistics.median(times[side])
                memory = gigabytes([one["peak_growth_bytes"] for one in results[side]])
                row += [f"{seconds:.3f}", f"{first['bytes'] / 1e9 / seconds:.2f}", memory]
            rows.append([*row, against.paired(times["Flower"], times["Peerfold"]), str(AIMS[rule])])

    print(f"""
Seconds a fold, of updates of {arguments.coordinates * 4 / 1e6:g} MB:

{against.table(rows)}

Medians; turns: {arguments.turns}, of {FOLDS} folds. Ratio: of Flower's time to Peerfold's, the median of the turns'
ratios and the least and greatest of them; aim: against Flower 1.6. Memory: how far the resident memory grew at most in
a fold. {load}
{against.machine(*(package.replace("==", " ") for package in PACKAGES[arguments.flwr]))}""")


if __name__ == "__main__":
    against.run(main)

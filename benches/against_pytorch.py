#!/usr/bin/env python3
"""Compares the training and evaluation of small models on CPUs: Peerfold's against PyTorch's.

Needs Python 3.11 or newer and cargo, and installs PyTorch from PyPI under target/pytorch the first time: on Linux
several GB, as PyPI's has what GPUs need. With PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu it is the
smaller build for CPUs. Let nothing else run meanwhile.

Both sides run in turn, each time as fresh processes: batches of 32 of examples in memory, gathered by shuffled indices,
Adam, cross-entropy, the loss read back after every step. PyTorch runs in eager mode, as the quickest of four variants
(Adam as it is or fused, weights in the default memory format or channels_last) that are tried first.
"""

import argparse
import statistics

import against

PACKAGES = ["torch==2.15.0", "numpy==2.4.6"]
MODELS = ["digits", "mnist", "cnn3x3"]
LAYOUTS = {"1 process of 2 threads": (1, 2), "2 processes of 1 thread": (2, 1)}
VARIANTS = {"digits": ["default", "fused"]}
ALL_VARIANTS = ["default", "fused", "channels_last", "channels_last+fused"]
# So that a hiccup does not choose.
TRIES = 2
TRAINING, EVALUATION, MEMORY = "steps_per_second", "evaluated_per_second", "peak_growth_bytes"


def measure(command, model, layout, seconds, load):
    """What all processes of the layout did together."""
    processes, threads = LAYOUTS[layout]
    command = [*command, "--model", model, "--threads", str(threads), "--seconds", str(seconds)]
    with load.watched():
        results, _ = against.together([command] * processes, limit=600 + 10 * seconds)
    results = [lines[-1] for lines in results]
    try:
        return {**results[0], **{key: sum(result[key] for result in results) for key in (TRAINING, EVALUATION)}}
    except KeyError as key:
        against.fail(f"{command[0]} did not say {key}")


def quickest(command, model, layout, seconds, load):
    tried = []
    for variant in VARIANTS.get(model, ALL_VARIANTS) * TRIES:
        variants = ["--train", variant, "--evaluate", variant]
        tried.append((variant, measure([*command, *variants], model, layout, seconds, load)))
    train, evaluate = (max(tried, key=lambda one: one[1][key])[0] for key in (TRAINING, EVALUATION))
    # Only the memory format matters to an evaluation.
    return train, evaluate.replace("+fused", "").replace("fused", "default")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--turns", type=against.positive(int), default=5, help="of both sides; default 5")
    parser.add_argument("--seconds", type=against.positive(float), default=5, help="of each training; default 5")
    parser.add_argument("--peerfold", metavar="FILE", type=against.program,
                        help="the bench's executable, if it is built already")
    arguments = parser.parse_args()

    python = against.environment("pytorch", PACKAGES)
    ours = [arguments.peerfold or against.build(["bench", "--bench", "training", "--no-run"], "training")]
    theirs = [str(python), str(against.ROOT / "benches" / "pytorch_training.py")]

    load = against.Load()
    training = [["model", "layout", "PyTorch steps/s", "as", "Peerfold steps/s", "ratio", "memory PyTorch", "Peerfold"]]
    evaluation = [["model", "layout", "PyTorch images/s", "as", "Peerfold images/s", "ratio"]]
    for model in arguments.models:
        for layout in LAYOUTS:
            against.say(f"{model}, {layout}: trying PyTorch's variants")
            train, evaluate = quickest(theirs, model, layout, min(1.5, arguments.seconds), load)
            sides = {"PyTorch": [*theirs, "--train", train, "--evaluate", evaluate], "Peerfold": ours}
            results = {side: [] for side in sides}
            for turn in range(arguments.turns):
                # Each side goes first every other time.
                for side in list(sides)[:: -1 if turn % 2 else 1]:
                    results[side].append(measure(sides[side], model, layout, arguments.seconds, load))
                    speed = results[side][-1][TRAINING]
                    against.say(f"{model}, {layout}, turn {turn + 1}/{arguments.turns}: {side} {speed:.0f} steps/s")

            def all_of(side, key):
                return [result[key] for result in results[side]]

            for side in sides:
                speeds = all_of(side, TRAINING)
                if min(speeds) < statistics.median(speeds) / 2:
                    against.say(f"warning: {side} was slower than half its median in a turn; something disturbed it")
            for rows, key, variant in (training, TRAINING, train), (evaluation, EVALUATION, evaluate):
                medians = [f"{statistics.median(all_of(side, key)):,.0f}" for side in sides]
                ratio = against.paired(all_of("Peerfold", key), all_of("PyTorch", key))
                rows.append([model, layout, medians[0], variant, medians[1], ratio])
            for side in sides:
                grown = [size for size in all_of(side, MEMORY) if size is not None]
                one = LAYOUTS[layout][0] == 1
                training[-1].append(f"{statistics.median(grown) / 2**20:.0f} MiB" if grown and one else "")

    print("\nTraining; with two processes the sum of both:\n")
    print(against.table(training))
    print("\nEvaluation of 10,000 images in batches of 32, without gradients:\n")
    print(against.table(evaluation))
    print(f"""
Medians; turns: {arguments.turns}, of {arguments.seconds:g} s. Ratio: Peerfold to PyTorch, the median of the turns'
ratios and the least and greatest of them. Memory: how far the resident memory grew at most in training, over what it
was before the model was made. {load}
{against.machine("PyTorch " + results["PyTorch"][0]["version"])}""")


if __name__ == "__main__":
    against.run(main)

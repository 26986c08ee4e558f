#!/usr/bin/env python3
"""A model that Peerfold knows nothing of, federated by `peerfold node --exec`, with Python's standard library alone.

    peerfold node --federation digits-in-python --partition 0/2 --exec 'python3 examples/exec/train.py'

Softmax regression on the 8×8 digits, by gradient descent with momentum. What a program must do to be federated is in
`main`: read the weights at $EXEC_WEIGHTS, train on this node's own examples, write the weights to $EXEC_OUT, say how many
examples those were in $EXEC_REPORT, and keep what else it needs, here the momentum, in $EXEC_STATE.
"""

import array
import csv
import gzip
import json
import math
import os
import pathlib
import random
import struct
import sys

DATA = pathlib.Path(__file__).parents[2] / "assets/digits8x8/digits.csv.gz"
PIXELS, DIGITS = 64, 10
SHAPES = {"bias": [DIGITS], "weight": [DIGITS, PIXELS]}
BATCH, RATE, MOMENTUM = 32, 0.05, 0.9


def write_tensors(path, tensors):
    """Writes tensors, each a list of numbers, as a safetensors file of 32-bit floats."""
    header, data = {}, b""
    for name, shape in SHAPES.items():
        values = array.array("f", tensors[name])
        if sys.byteorder == "big":
            values.byteswap()
        end = len(data) + 4 * len(values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), end]}
        data += values.tobytes()
    text = json.dumps(header).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_tensors(path):
    """Reads what `write_tensors` wrote, or Peerfold."""
    file = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header, data = json.loads(file[8 : 8 + length]), file[8 + length :]
    tensors = {}
    for name in SHAPES:
        begin, end = header[name]["data_offsets"]
        values = array.array("f", data[begin:end])
        if sys.byteorder == "big":
            values.byteswap()
        tensors[name] = values.tolist()
    return tensors


def examples():
    """This node's part of the examples, and those that all nodes are measured on, as pairs of pixels and digit."""
    with gzip.open(DATA, "rt") as file:
        rows = [[int(field) for field in row] for row in csv.reader(file)]
    everything = [([pixel / 16 for pixel in row[:PIXELS]], row[PIXELS]) for row in rows]
    # The same order on all nodes.
    random.Random(0).shuffle(everything)
    part, parts = int(os.environ["EXEC_PARTITION"]), int(os.environ["EXEC_PARTITIONS"])
    return everything[360:][part::parts], everything[:360]


def scores(tensors, pixels):
    """The probability of each digit."""
    bias, weight = tensors["bias"], tensors["weight"]
    rows = (weight[digit * PIXELS : (digit + 1) * PIXELS] for digit in range(DIGITS))
    sums = [one + sum(map(float.__mul__, row, pixels)) for one, row in zip(bias, rows)]
    largest = max(sums)
    powers = [math.exp(one - largest) for one in sums]
    return [power / sum(powers) for power in powers]


def accuracy(tensors, of):
    """Which part of the examples is recognised."""
    right = 0
    for pixels, digit in of:
        probabilities = scores(tensors, pixels)
        right += probabilities.index(max(probabilities)) == digit
    return right / len(of)


def train(tensors, momentum, mine, order):
    """One epoch. Returns the mean loss, and the number of steps."""
    order.shuffle(mine)
    loss, batches = 0.0, [mine[at : at + BATCH] for at in range(0, len(mine), BATCH)]
    for batch in batches:
        slopes = {name: [0.0] * math.prod(shape) for name, shape in SHAPES.items()}
        for pixels, digit in batch:
            probabilities = scores(tensors, pixels)
            loss -= math.log(max(probabilities[digit], 1e-12))
            probabilities[digit] -= 1
            for row, slope in enumerate(probabilities):
                slopes["bias"][row] += slope / len(batch)
                for at, pixel in enumerate(pixels, row * PIXELS):
                    slopes["weight"][at] += slope * pixel / len(batch)
        for name, values in tensors.items():
            moving = momentum[name]
            for at, slope in enumerate(slopes[name]):
                moving[at] = MOMENTUM * moving[at] + slope
                values[at] -= RATE * moving[at]
    return loss / len(mine), len(batches)


def main():
    epoch, state = int(os.environ["EXEC_EPOCH"]), pathlib.Path(os.environ["EXEC_STATE"])
    if epoch == 0:
        # What a new federation begins from: it follows from $EXEC_SEED, the same on all nodes.
        draw = random.Random(int(os.environ["EXEC_SEED"]))
        first = {name: [draw.gauss(0, 0.01) for _ in range(math.prod(shape))] for name, shape in SHAPES.items()}
        write_tensors(os.environ["EXEC_OUT"], first)
        return
    tensors = read_tensors(os.environ["EXEC_WEIGHTS"])
    kept = state / "momentum.safetensors"
    zero = {name: [0.0] * math.prod(shape) for name, shape in SHAPES.items()}
    momentum = read_tensors(kept) if kept.exists() else zero
    mine, test = examples()
    # These weights are folded: this is how good the federation is.
    folded = accuracy(tensors, test)
    loss, steps = train(tensors, momentum, mine, random.Random(f"{os.environ['EXEC_DATA_SEED']} {epoch}"))
    write_tensors(os.environ["EXEC_OUT"], tensors)
    write_tensors(kept, momentum)
    report = {"num_examples": len(mine), "metrics": {"loss": loss, "folded_accuracy": folded}, "steps": steps}
    pathlib.Path(os.environ["EXEC_REPORT"]).write_text(json.dumps(report))
    print(f"epoch {epoch}: loss {loss:.3f}, the weights it began from recognise {folded:.1%}")


if __name__ == "__main__":
    main()

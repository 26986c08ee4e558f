"""Trains and evaluates one model with PyTorch for a while, and prints one JSON line: against_pytorch.py runs it."""

import argparse
import json
import time

import torch
from torch import nn

BATCH = 32
# As many random examples as MNIST has test images: what they show changes nothing about the time.
EXAMPLES = 10_000
# Of these the driver takes the quickest. For `digits` nothing has channels.
VARIANTS = ["default", "fused", "channels_last", "channels_last+fused"]


def model(name):
    if name == "digits":
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)), (1, 8, 8)
    if name == "mnist":
        layers = [nn.Conv2d(1, 32, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 16, 4), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1296, 10)), (1, 28, 28)
    layers = [nn.Conv2d(1, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(1600, 10)), (1, 28, 28)


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


def rate(work, seconds):
    """How often `work` runs a second."""
    count, began = 0, time.perf_counter()
    while True:
        work()
        count += 1
        elapsed = time.perf_counter() - began
        if elapsed >= seconds:
            return count / elapsed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=["digits", "mnist", "cnn3x3"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--train", choices=VARIANTS, default="default")
    parser.add_argument("--evaluate", choices=VARIANTS, default="default")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    shape = model(arguments.model)[1]
    images, labels = torch.rand(EXAMPLES, *shape), torch.randint(0, 10, (EXAMPLES,))

    # What PyTorch imports and starts at the first step of any model is not that model's memory.
    tiny = nn.Linear(1, 1)
    tiny(torch.ones(1, 1)).sum().backward()
    torch.optim.Adam(tiny.parameters()).step()
    before = peak_is_now()
    network, _ = model(arguments.model)

    def lay_out(variant):
        last = variant.startswith("channels_last")
        network.to(memory_format=torch.channels_last if last else torch.contiguous_format)

    lay_out(arguments.train)
    fused = {"fused": True} if arguments.train.endswith("fused") else {}
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, **fused)
    loss_of = nn.CrossEntropyLoss()

    def batches():
        while True:
            yield from torch.randperm(EXAMPLES)[:EXAMPLES - EXAMPLES % BATCH].split(BATCH)

    indices = batches()

    def step():
        batch = next(indices)
        # Quicker than images[batch].
        loss = loss_of(network(images.index_select(0, batch)), labels.index_select(0, batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def evaluate():
        right = torch.zeros((), dtype=torch.int64)
        for some, truth in zip(images.split(BATCH), labels.split(BATCH)):
            right += (network(some).argmax(1) == truth).sum()
        return right.item()

    for _ in range(20):
        step()
    rate(step, arguments.seconds / 10)
    steps = rate(step, arguments.seconds)
    peak = None if before is None else resident("VmHWM") - before
    lay_out(arguments.evaluate)
    evaluate()
    evaluated = rate(evaluate, arguments.seconds / 5) * EXAMPLES
    print(json.dumps({
        "model": arguments.model,
        "threads": arguments.threads,
        "steps_per_second": steps,
        "evaluated_per_second": evaluated,
        "peak_growth_bytes": peak,
        "version": torch.__version__,
    }))


if __name__ == "__main__":
    main()

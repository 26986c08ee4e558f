"""How good saved weights of the CNN are, in NumPy alone: neither Peerfold nor a framework is asked.

python score_mnist.py model.safetensors DIRECTORY_OF_MNIST
"""

from __future__ import annotations

import sys
from pathlib import Path

import mnist
import numpy as np


def convolved(images: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """A convolution without padding, and ReLU: [N, input, rows, columns] to [N, output, rows - 3, columns - 3]."""
    windows = np.lib.stride_tricks.sliding_window_view(images, weight.shape[2:], axis=(2, 3))
    sums = np.tensordot(windows, weight, axes=((1, 4, 5), (1, 2, 3)))
    return np.maximum(sums.transpose(0, 3, 1, 2) + bias[:, None, None], 0)


def pooled(images: np.ndarray) -> np.ndarray:
    """The greatest of each square of four; a last odd row and column are left out."""
    count, channels, rows, columns = images.shape
    even = images[:, :, : rows // 2 * 2, : columns // 2 * 2]
    return even.reshape(count, channels, rows // 2, 2, columns // 2, 2).max(axis=(3, 5))


def logits(weights: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """From images of [N, 28, 28] to [N, 10], with `dense.weight` as PyTorch has it."""
    hidden = pooled(convolved(images[:, None], weights["conv1.weight"], weights["conv1.bias"]))
    hidden = convolved(hidden, weights["conv2.weight"], weights["conv2.bias"])
    return hidden.reshape(len(hidden), -1) @ weights["dense.weight"].T + weights["dense.bias"]


def accuracy(weights: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray) -> float:
    """The part of the images that are recognised."""
    batches = range(0, len(images), 500)
    right = sum((logits(weights, images[i : i + 500]).argmax(1) == labels[i : i + 500]).sum() for i in batches)
    return float(right) / len(images)


if __name__ == "__main__":
    images, labels = mnist.load(Path(sys.argv[2]), "t10k")
    print(f"accuracy {accuracy(mnist.read(Path(sys.argv[1])), images, labels):.4f}")

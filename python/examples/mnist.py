"""MNIST for the examples beside, and files of weights: NumPy alone.

python mnist.py first.safetensors       # random first weights of the CNN, for all nodes
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np

#: Tensors of the CNN as files have them, which is as PyTorch has them.
SHAPES = {
    "conv1.bias": (32,),
    "conv1.weight": (32, 1, 4, 4),
    "conv2.bias": (16,),
    "conv2.weight": (16, 32, 4, 4),
    "dense.bias": (10,),
    "dense.weight": (10, 1296),
}


def load(directory: Path, which: str) -> tuple[np.ndarray, np.ndarray]:
    """The images and labels of `train` or `t10k`: [N, 28, 28], from 0 to 1, and [N]. `.gz` or not, also in `mnist`."""
    arrays = []
    for name, header in ((f"{which}-images-idx3-ubyte", 16), (f"{which}-labels-idx1-ubyte", 8)):
        places = [directory / folder / f"{name}{end}" for folder in ("", "mnist") for end in ("", ".gz")]
        path = next((path for path in places if path.exists()), None)
        if path is None:
            raise SystemExit(f"{directory} has no {name}")
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        arrays.append(np.frombuffer(data, np.uint8, offset=header))
    images, labels = arrays
    return images.reshape(-1, 28, 28).astype(np.float32) / 255, labels.astype(np.int64)


def part(labels: np.ndarray, number: int, nodes: int, skew: float) -> np.ndarray:
    """Which examples are this node's: with the probability `skew` an example is its who owns the label, else anyone's.

    As the paper splits them. All nodes draw the same, so no example is in two parts. `peerfold node` splits them
    likewise, but draws by a generator of its own: its part has examples that these have too.
    """
    draw = np.random.default_rng(0)
    owners = np.concatenate([[node] * len(own) for node, own in enumerate(np.array_split(np.arange(10), nodes))])
    skewed, anyone = draw.random(len(labels)) < skew, draw.integers(nodes, size=len(labels))
    return np.where(skewed, owners[labels], anyone) == number


def read(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, all of them of f32."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, tensor in json.loads(data[8:start]).items():
        if name != "__metadata__":
            assert tensor["dtype"] == "F32", f"{name} is of {tensor['dtype']}"
            first, end = (start + offset for offset in tensor["data_offsets"])
            weights[name] = np.frombuffer(data[first:end], "<f4").reshape(tensor["shape"])
    return weights


def write(path: Path, weights: dict[str, np.ndarray]) -> None:
    """Writes a safetensors file of tensors of f32."""
    header, offset = {}, 0
    for name, array in weights.items():
        end = offset + array.nbytes
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    body = b"".join(array.astype("<f4").tobytes() for array in weights.values())
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def first(seed: int = 0) -> dict[str, np.ndarray]:
    """Random first weights: Glorot uniform, and biases of 0."""
    draw = np.random.default_rng(seed)
    weights = {}
    for name, shape in SHAPES.items():
        fans = (shape[0] + shape[1]) * int(np.prod(shape[2:])) if len(shape) > 1 else 0
        bound = (6 / fans) ** 0.5 if fans else 0.0
        weights[name] = draw.uniform(-bound, bound, shape).astype(np.float32)
    return weights


if __name__ == "__main__":
    write(Path(sys.argv[1]), first())

"""One model's weights in several frameworks."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import score_mnist

import peerfold
from peerfold.mappings import KERAS, TORCH, TensorMapping, WeightMapping, mnist

os.environ.setdefault("KERAS_BACKEND", "jax")


def shared() -> dict[str, np.ndarray]:
    """Every element has bits of its own, which no arithmetic keeps: NaNs with a payload."""
    bits = np.random.default_rng(1).permutation(2**16).astype(np.uint32)
    weights, start = {}, 0
    for tensor in mnist.tensors:
        size = int(np.prod(tensor.shape()))
        values = bits[start : start + size] | np.uint32(0x7F80_0000)
        weights[tensor.name] = values.view(np.float32).reshape(tensor.shape())
        start += size
    return weights


def small() -> dict[str, np.ndarray]:
    """Weights to compute with."""
    draw = np.random.default_rng(2)
    return {tensor.name: draw.normal(0, 0.1, tensor.shape()).astype(np.float32) for tensor in mnist.tensors}


def images() -> np.ndarray:
    return np.random.default_rng(3).random((5, 28, 28), np.float32)


def expected() -> np.ndarray:
    """What the CNN says of the images, in NumPy."""
    weights = small()
    return score_mnist.logits({**weights, "dense.weight": weights["dense.weight"].T}, images())


def torch_model(torch: Any) -> Any:
    nn = torch.nn
    layers = {
        "conv1": nn.Conv2d(1, 32, 4),
        "relu1": nn.ReLU(),
        "pool": nn.MaxPool2d(2),
        "conv2": nn.Conv2d(32, 16, 4),
        "relu2": nn.ReLU(),
        "flatten": nn.Flatten(),
        "dense": nn.Linear(1296, 10),
    }
    return nn.Sequential(OrderedDict(layers))


def keras_model(keras: Any) -> Any:
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input(shape=(28, 28, 1)),
            layers.Conv2D(32, 4, activation="relu", name="conv1"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 4, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(10, name="dense"),
        ]
    )


def same_bits(one: Any, other: Any) -> bool:
    arrays = [np.asarray(one[name]) for name in one], [np.asarray(other[name]) for name in one]
    return list(one) == list(other) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes() for a, b in zip(*arrays, strict=True)
    )


@pytest.mark.parametrize("framework", [TORCH, KERAS])
def test_there_and_back_every_bit_is_the_same(framework: str) -> None:
    own = mnist.from_shared(framework, shared())
    assert same_bits(mnist.to_shared(framework, own), shared())


def test_shapes_are_those_that_are_published() -> None:
    def shapes(weights: Any) -> dict[str, list[int]]:
        return {name: list(array.shape) for name, array in weights.items()}

    assert shapes(shared()) == {
        "conv1.weight": [32, 1, 4, 4],
        "conv1.bias": [32],
        "conv2.weight": [16, 32, 4, 4],
        "conv2.bias": [16],
        "dense.weight": [1296, 10],
        "dense.bias": [10],
    }
    assert shapes(mnist.from_shared(TORCH, shared())) == {**shapes(shared()), "dense.weight": [10, 1296]}
    assert shapes(mnist.from_shared(KERAS, shared())) == {
        "conv1/kernel": [4, 4, 1, 32],
        "conv1/bias": [32],
        "conv2/kernel": [4, 4, 32, 16],
        "conv2/bias": [16],
        "dense/kernel": [1296, 10],
        "dense/bias": [10],
    }


def test_what_isnt_the_model_is_said() -> None:
    own = mnist.from_shared(TORCH, shared())
    without = {name: value for name, value in own.items() if name != "conv2.bias"}
    for wrong, why in [
        (without, "the model has no conv2.bias, which the mapping mnist shares; it has conv1.weight, "),
        ({**own, "norm.weight": np.zeros(3)}, "norm.weight, which isn't in the mapping mnist"),
        ({**own, "dense.weight": own["dense.weight"].T}, r"dense.weight .* \(1296, 10\), .* \(10, 1296\)"),
        ({**own, "conv1.bias": own["conv1.bias"].astype(np.float16)}, "conv1.bias is float16 .* it is float32"),
    ]:
        with pytest.raises(peerfold.WeightsError, match=why):
            mnist.to_shared(TORCH, wrong)
    with pytest.raises(peerfold.WeightsError, match="other isn't in the mapping mnist"):
        mnist.from_shared(KERAS, {"other": np.zeros(1)})
    with pytest.raises(peerfold.UsageError, match=r"doesn't say how conv1.weight lies in flax"):
        mnist.to_shared("flax", own)


def test_a_mapping_of_ones_own() -> None:
    sizes = {"output": 2, "input": 3}
    both = {"mine": ("w", "input output"), "theirs": ("v", "(output input)")}
    mapping = WeightMapping("own", (TensorMapping("weight", "output input", sizes, both, "int8"),))
    matrix = np.arange(6, dtype=np.int8).reshape(2, 3)
    assert mapping.from_shared("mine", {"weight": matrix})["w"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert mapping.from_shared("theirs", {"weight": matrix})["v"].tolist() == [0, 1, 2, 3, 4, 5]
    assert mapping.to_shared("mine", {"w": matrix.T})["weight"].tolist() == matrix.tolist()
    with pytest.raises(peerfold.UsageError, match="the axes 'output' of mine aren't output, input, each once"):
        TensorMapping("weight", "output input", sizes, {"mine": ("w", "output")})


def test_pytorch_computes_what_numpy_does_with_the_shared_weights() -> None:
    torch = pytest.importorskip("torch", reason="torch isn't installed")
    from peerfold.torch import load, weights

    model = torch_model(torch)
    parameter = model.dense.weight
    load(model, small(), mnist)
    assert model.dense.weight is parameter
    assert same_bits(weights(model, mnist), small())
    with torch.inference_mode():
        found = model(torch.from_numpy(images())[:, None]).numpy()
    np.testing.assert_allclose(found, expected(), rtol=1e-4, atol=1e-4)
    load(model, shared(), mnist)
    assert same_bits(weights(model, mnist), shared())
    with pytest.raises(peerfold.WeightsError, match="isn't in the mapping"):
        load(model, {"dense.kernel": np.zeros(1)}, mnist)


def test_keras_computes_what_numpy_does_with_the_shared_weights() -> None:
    keras = pytest.importorskip("keras", reason="keras isn't installed")
    from peerfold.keras import load, weights

    model = keras_model(keras)
    load(model, small(), mnist)
    assert same_bits(weights(model, mnist), small())
    np.testing.assert_allclose(model.predict(images()[..., None], verbose=0), expected(), rtol=1e-4, atol=1e-4)
    load(model, shared(), mnist)
    assert same_bits(weights(model, mnist), shared())
    with pytest.raises(peerfold.WeightsError, match="isn't in the mapping"):
        load(model, {"dense/kernel": np.zeros(1)}, mnist)

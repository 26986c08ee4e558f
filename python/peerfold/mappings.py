"""Mappings: one model's weights in several frameworks, so that nodes of each train it together.

    federation = peerfold.torch.Federation(node, model, optimizer, mapping=peerfold.mappings.mnist)
    callback = peerfold.keras.FederatedCallback(node, num_examples=len(x), mapping=peerfold.mappings.mnist)

Frameworks call the same tensors by other names and have their axes in another order. A mapping says what a federation
calls them, how they lie there, and how they lie in each framework. Elements are only moved, never computed with: a
tensor that goes there and back has the same bits.

A mapping for a model of one's own is a few lines: see `WeightMapping`.

`mnist` is the model of `peerfold node --dataset mnist`, the flwr-serverless paper's CNN of 21,722 parameters of float32:
convolution of 4×4 to 32 channels, ReLU, max-pooling by 2, convolution of 4×4 to 16 channels, ReLU, dense to 10 classes;
no padding. Images are pixels from 0 to 1, of the shape [batch, 1, 28, 28] in PyTorch, and [batch, 28, 28, 1] in Keras,
whose `data_format` is `channels_last`, as by default. In all frameworks the layers are called as here:

| shared, as in burn | PyTorch | Keras |
| --- | --- | --- |
| `conv1.weight` [32, 1, 4, 4]: output, input, row, column | the same | `conv1/kernel` [4, 4, 1, 32]: row, column, input, output |
| `conv1.bias` [32] | the same | `conv1/bias` [32] |
| `conv2.weight` [16, 32, 4, 4]: output, input, row, column | the same | `conv2/kernel` [4, 4, 32, 16]: row, column, input, output |
| `conv2.bias` [16] | the same | `conv2/bias` [16] |
| `dense.weight` [1296, 10]: (channel, row, column), output | [10, 1296]: output, (channel, row, column) | `dense/kernel` [1296, 10]: (row, column, channel), output |
| `dense.bias` [10] | the same | `dense/bias` [10] |

`dense` sees what comes out of `conv2`, 16 channels of 9×9. PyTorch flattens it channel by channel and Keras pixel by
pixel, so `dense/kernel` has the shared shape, and its rows in another order.
"""  # noqa: E501

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ._arrays import Arrays, Weights, is_torch
from ._errors import UsageError, WeightsError

#: The frameworks that callbacks of this package ask for, by the names that they have in a `TensorMapping`.
TORCH, KERAS = "torch", "keras"


def _groups(axes: str) -> list[list[str]]:
    """The axes of each dimension: `(row column) class` has two dimensions."""
    return [group.split() if group else [axis] for group, axis in re.findall(r"\(([^()]*)\)|([^\s()]+)", axes)]


def _flat(axes: str) -> list[str]:
    return [axis for group in _groups(axes) for axis in group]


@dataclass(frozen=True)
class TensorMapping:
    """One tensor, in the federation and in frameworks.

    Axes are names, one for each dimension and outermost first; several in parentheses are one dimension. So
    `(channel row column) class` is a matrix whose rows are the pixels of one channel after the other.

    Raises `UsageError` if a framework's axes aren't those of the federation in some order.
    """

    name: str  #: What the federation calls it.
    axes: str  #: How it lies there.
    sizes: Mapping[str, int]  #: How long each axis is.
    frameworks: Mapping[str, tuple[str, str]]  #: What a framework calls it, and how it lies there, by the framework.
    dtype: str = "float32"  #: Of its elements, everywhere.

    def __post_init__(self) -> None:
        """Checks the axes."""
        for where, axes in [("the federation", self.axes), *((name, own[1]) for name, own in self.frameworks.items())]:
            if sorted(_flat(axes)) != sorted(self.sizes):
                raise UsageError(f"{self.name}: the axes {axes!r} of {where} aren't {', '.join(self.sizes)}, each once")

    def shape(self, framework: str | None = None) -> tuple[int, ...]:
        """Its shape in a framework; in the federation if none is named."""
        axes = self.axes if framework is None else self.frameworks[framework][1]
        return tuple(math.prod(self.sizes[axis] for axis in group) for group in _groups(axes))

    def _moved(self, value: Any, before: str, after: str) -> Any:
        axes = _flat(before)
        order = [axes.index(axis) for axis in _flat(after)]
        apart = value.reshape([self.sizes[axis] for axis in axes])
        moved = apart.permute(order) if is_torch(apart) else apart.transpose(order)
        return moved.reshape([math.prod(self.sizes[axis] for axis in group) for group in _groups(after)])

    def to_shared(self, framework: str, value: Any) -> Any:
        """The federation's, of a framework's. Not a copy where the axes are in the same order."""
        return self._moved(value, self.frameworks[framework][1], self.axes)

    def from_shared(self, framework: str, value: Any) -> Any:
        """A framework's, of the federation's. Not a copy where the axes are in the same order."""
        return self._moved(value, self.axes, self.frameworks[framework][1])

    def _checked(self, value: Any, framework: str | None, mapping: str) -> Any:
        """The array, if it has the right shape and dtype."""
        array = value if is_torch(value) else np.asarray(value)
        shape, dtype = tuple(array.shape), str(array.dtype).removeprefix("torch.")
        wanted = self.shape(framework)
        if (shape, dtype) != (wanted, self.dtype):
            name = self.name if framework is None else self.frameworks[framework][0]
            raise WeightsError(
                f"{name} is {dtype} of the shape {shape}, and by the mapping {mapping} it is {self.dtype} of {wanted}"
            )
        return array


@dataclass(frozen=True)
class WeightMapping:
    """A model's tensors, in the federation and in frameworks.

    For a layer that has [output, input] in PyTorch and [input, output] in Keras, and that is shared as in PyTorch:

        sizes = {"output": 10, "input": 64}
        frameworks = {"torch": ("fc.weight", "output input"), "keras": ("fc/kernel", "input output")}
        mine = WeightMapping("mine", (TensorMapping("fc.weight", "output input", sizes, frameworks), ...))

    PyTorch's names are those of `state_dict`, and Keras' the paths of its variables. Any other framework may have a
    name too: a loop of one's own calls `to_shared` before `node.update`, and `from_shared` after it.
    """

    name: str  #: For messages.
    tensors: tuple[TensorMapping, ...]  #: All of them.

    def to_shared(self, framework: str, weights: Weights) -> Arrays:
        """A framework's weights as the federation has them: tensors of PyTorch stay such, all else is NumPy's.

        Raises `WeightsError` if a tensor is missing, has another shape or dtype, or isn't in the mapping: it would not
        be shared.
        """
        own = dict(self._of(framework))
        if missing := [name for name in own if name not in weights]:
            there = ", ".join(weights)
            raise WeightsError(f"the model has no {missing[0]}, which the mapping {self.name} shares; it has {there}")
        if unknown := [name for name in weights if name not in own]:
            raise WeightsError(f"the model has {unknown[0]}, which isn't in the mapping {self.name}")
        return {
            tensor.name: tensor.to_shared(framework, tensor._checked(weights[name], framework, self.name))
            for name, tensor in own.items()
        }

    def from_shared(self, framework: str, shared: Weights) -> Arrays:
        """The federation's weights, or some of them, as a framework has them: the inverse of `to_shared`.

        Raises `WeightsError` for a tensor of another name, shape or dtype.
        """
        names = {tensor.name: (name, tensor) for name, tensor in self._of(framework)}
        if unknown := [name for name in shared if name not in names]:
            raise WeightsError(f"{unknown[0]} isn't in the mapping {self.name}")
        found = {}
        for shared_name, value in shared.items():
            name, tensor = names[shared_name]
            found[name] = tensor.from_shared(framework, tensor._checked(value, None, self.name))
        return found

    def _of(self, framework: str) -> Iterator[tuple[str, TensorMapping]]:
        """The tensors, by the names that they have in a framework."""
        for tensor in self.tensors:
            if framework not in tensor.frameworks:
                raise UsageError(f"the mapping {self.name} doesn't say how {tensor.name} lies in {framework}")
            yield tensor.frameworks[framework][0], tensor


def _convolution(name: str, outputs: int, inputs: int) -> Iterator[TensorMapping]:
    """A convolution of 4×4 and its bias."""
    sizes = {"output": outputs, "input": inputs, "row": 4, "column": 4}
    frameworks = {
        TORCH: (f"{name}.weight", "output input row column"),
        KERAS: (f"{name}/kernel", "row column input output"),
    }
    yield TensorMapping(f"{name}.weight", "output input row column", sizes, frameworks)
    yield _bias(name, outputs)


def _bias(name: str, outputs: int) -> TensorMapping:
    frameworks = {TORCH: (f"{name}.bias", "output"), KERAS: (f"{name}/bias", "output")}
    return TensorMapping(f"{name}.bias", "output", {"output": outputs}, frameworks)


#: The paper's CNN for MNIST: see the table above.
mnist = WeightMapping(
    "mnist",
    (
        *_convolution("conv1", 32, 1),
        *_convolution("conv2", 16, 32),
        TensorMapping(
            "dense.weight",
            "(channel row column) output",
            {"channel": 16, "row": 9, "column": 9, "output": 10},
            {
                TORCH: ("dense.weight", "output (channel row column)"),
                KERAS: ("dense/kernel", "(row column channel) output"),
            },
        ),
        _bias("dense", 10),
    ),
)

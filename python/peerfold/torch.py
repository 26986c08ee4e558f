"""PyTorch: one call at the end of an epoch.

    federation = peerfold.torch.Federation(node, model, optimizer)
    for epoch in federation.epochs(10):
        train(model, optimizer)
        federation.epoch_end(num_examples=len(data), metrics={"loss": loss})
    federation.finish()

Names are those of `state_dict`, so a saved model loads by `load_state_dict`. Tensors that are tied, so that several
names share one memory, are shared under the first of their names. Models within `DistributedDataParallel`,
`DataParallel` and `torch.compile` are found. In distributed training every process runs these lines: the node of rank
0 does everything, and its weights are broadcast to the others. With a `mapping` they are shared under its names, also
with nodes of other frameworks: see `peerfold.mappings`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from . import _ranks
from ._errors import CheckpointError, UsageError, WeightsError
from ._node import FederatedNode
from .mappings import TORCH, WeightMapping

#: Names in the state of a `Federation`, and what stands in its JSON for tensors, tuples, and dicts with any keys.
_OPTIMIZER, _SCHEDULER, _JSON = "optimizer", "scheduler", "json"
_TENSOR, _TUPLE, _PAIRS = "tensor", "tuple", "dict"


def unwrapped(module: Any) -> Any:
    """The model itself, within what makes it distributed or compiles it."""
    parallel = torch.nn.parallel
    while True:
        if isinstance(module, (parallel.DistributedDataParallel, parallel.DataParallel)):
            module = module.module
        elif hasattr(module, "_orig_mod"):
            module = module._orig_mod
        else:
            return module


def _place(tensor: Any) -> tuple[Any, ...]:
    storage = tensor.untyped_storage().data_ptr() if tensor.numel() else id(tensor)
    return storage, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def weights(module: Any, mapping: WeightMapping | None = None) -> dict[str, Any]:
    """The tensors of a model by the names of its `state_dict`, tied ones once. They share the model's memory.

    What a `state_dict` has besides tensors isn't among them. With a mapping they have its names and shapes, and are
    copies where it moves axes. Raises `WeightsError` for a tensor that has no data yet, or of which this process has
    only a part, or if the model isn't of the mapping, and `TypeError` for what is no model.
    """
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"{module!r} is no model: give a torch.nn.Module")
    seen: set[tuple[Any, ...]] = set()
    found = {}
    for name, value in unwrapped(module).state_dict().items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.is_meta or isinstance(value, torch.nn.parameter.UninitializedTensorMixin):
            raise WeightsError(
                f"{name} has no data yet: materialise the model, or call it once, before it is federated"
            )
        if hasattr(value, "full_tensor"):
            raise WeightsError(f"{name} is sharded over several processes (FSDP): only whole tensors can be federated")
        if (place := _place(value)) not in seen:
            seen.add(place)
            found[name] = value
    return found if mapping is None else mapping.to_shared(TORCH, found)


def load(module: Any, new: Mapping[str, Any], mapping: WeightMapping | None = None) -> None:
    """Writes weights into a model in place: parameters stay the same objects, so optimizers go on with them.

    With a mapping they have its names and shapes. Raises `WeightsError` for names or shapes that the model, or the
    mapping, doesn't have; then nothing is changed.
    """
    if mapping is not None:
        new = mapping.from_shared(TORCH, new)
    own = weights(module)
    for name, value in new.items():
        if name not in own:
            raise WeightsError(f"the model has no tensor {name}")
        shape = tuple(value.shape) if isinstance(value, torch.Tensor) else np.shape(value)
        if tuple(own[name].shape) != shape:
            raise WeightsError(f"{name} has the shape {shape}, and the model's {tuple(own[name].shape)}")
    with torch.no_grad():
        for name, value in new.items():
            own[name].copy_(value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value)))


def _packed(value: Any, tensors: dict[str, Any], path: str) -> Any:
    """A value for JSON: tensors in it are put among `tensors`, and named where they were.

    Raises `TypeError` for what is neither a tensor nor a figure, a text, a list or a dict.
    """
    if isinstance(value, torch.Tensor):
        tensors[path] = value
        return {_TENSOR: path}
    if isinstance(value, Mapping):
        pairs = [[key, _packed(item, tensors, f"{path}/{key}")] for key, item in value.items()]
        return {_PAIRS: pairs}
    if isinstance(value, (list, tuple)):
        items = [_packed(item, tensors, f"{path}/{at}") for at, item in enumerate(value)]
        return {_TUPLE: items} if isinstance(value, tuple) else items
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path} is of type {type(value).__name__}")


def _unpacked(packed: Any, saved: Mapping[str, Any]) -> Any:
    """What `_packed` was given."""
    if isinstance(packed, list):
        return [_unpacked(item, saved) for item in packed]
    if not isinstance(packed, dict):
        return packed
    if _TENSOR in packed:
        value = saved[packed[_TENSOR]]
        return value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
    if _TUPLE in packed:
        return tuple(_unpacked(item, saved) for item in packed[_TUPLE])
    return {key: _unpacked(item, saved) for key, item in packed[_PAIRS]}


def _state_of(owner: Any, kind: str) -> dict[str, Any]:
    """A `state_dict` as arrays by name: nothing is pickled. Raises `WeightsError` if it has what can't be any."""
    tensors: dict[str, Any] = {}
    try:
        text = json.dumps(_packed(owner.state_dict(), tensors, kind))
    except TypeError as error:
        raise WeightsError(f"the {kind}'s state has what is neither a tensor nor a figure: {error}") from error
    return {**tensors, f"{kind}.{_JSON}": np.frombuffer(text.encode(), np.uint8)}


def _load_state_of(owner: Any, kind: str, saved: Mapping[str, Any]) -> None:
    """What `_state_of` gave, for an owner made alike. Raises `CheckpointError` if it isn't."""
    try:
        state = _unpacked(json.loads(bytes(np.asarray(saved[f"{kind}.{_JSON}"]))), saved)
        owner.load_state_dict(_like(state, owner.state_dict()))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the saved state isn't one of this {kind}: {error}") from error


def _like(value: Any, own: Any) -> Any:
    """A value with counters where the owner has such, as a schedule's milestones are."""
    if isinstance(own, Counter) and isinstance(value, Mapping):
        return Counter(value)
    if isinstance(own, Mapping) and isinstance(value, Mapping):
        return {key: _like(item, own.get(key)) for key, item in value.items()}
    if isinstance(own, list) and isinstance(value, list) and len(own) == len(value):
        return [_like(item, mine) for item, mine in zip(value, own, strict=True)]
    return value


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """An optimizer's state as tensors by name, and the rest as JSON: nothing is pickled.

    Raises `WeightsError` if it has something that is neither.
    """
    return _state_of(optimizer, _OPTIMIZER)


def load_optimizer_state(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """What `optimizer_state` gave, for an optimizer of the same parameters. Raises `CheckpointError` if it isn't."""
    _load_state_of(optimizer, _OPTIMIZER, saved)


class Federation:
    """A model in training, and the node that federates it.

    In distributed training, where `torch.distributed` is initialised, every process makes one and calls the same
    methods. The node of rank 0 does everything, and the others get its weights; they may be given `None` as a node. Let
    the process group's timeout be longer than the node may wait for its peers.
    """

    def __init__(
        self,
        node: FederatedNode | None,
        model: Any,
        optimizer: Any = None,
        scheduler: Any = None,
        *,
        mapping: WeightMapping | None = None,
    ) -> None:
        """Begins: the model gets the weights to train on from, and the optimizer what it had before a crash.

        Args:
            node: An asynchronous or synchronous node that has not begun.
            model: The model, on any device.
            optimizer: Its optimizer, whose state then survives a crash.
            scheduler: Its schedule of learning rates; likewise.
            mapping: Under which names and with which axes the model is shared, such as `peerfold.mappings.mnist`; as in
                its `state_dict` by default.

        Raises what `peerfold.FederatedNode.begin` raises, and `UsageError` if the process of rank 0 has no node.
        """
        self.model, self.optimizer, self.scheduler, self.mapping = model, optimizer, scheduler, mapping
        self._node = node if _ranks.is_first() else None
        self._epoch = int(_ranks.lead(self._begin))
        self._take_over()
        state = node.state if self._node is not None and node is not None else None
        state = _ranks.spread_state(state if isinstance(state, dict) else None)
        if state is not None:
            self._load_state(state)

    @property
    def node(self) -> FederatedNode:
        """The node. Raises `UsageError` in a process that has none."""
        if self._node is None:
            raise UsageError(
                "this process has no node: give one to the Federation (None may be given in distributed training, to "
                "processes of other ranks than 0)"
            )
        return self._node

    @property
    def epoch(self) -> int:
        """The last complete epoch, in every process."""
        return self._epoch

    def _begin(self) -> int:
        node = self.node
        began = node.begin(weights(self.model, self.mapping), self._state(), copy=False)
        load(self.model, began, self.mapping)
        return node.epoch

    def _take_over(self) -> None:
        """Makes the weights those of rank 0, where there are others."""
        _ranks.spread(weights(self.model).values())

    def _state(self) -> dict[str, Any]:
        state = {} if self.optimizer is None else optimizer_state(self.optimizer)
        return state if self.scheduler is None else {**state, **_state_of(self.scheduler, _SCHEDULER)}

    def _load_state(self, state: Mapping[str, Any]) -> None:
        if self.optimizer is not None and f"{_OPTIMIZER}.{_JSON}" in state:
            load_optimizer_state(self.optimizer, state)
        if self.scheduler is not None and f"{_SCHEDULER}.{_JSON}" in state:
            _load_state_of(self.scheduler, _SCHEDULER, state)

    def epochs(self, last: int) -> Iterator[int]:
        """The epochs to train, each to be ended by `epoch_end`: see `peerfold.FederatedNode.epochs`."""
        given = iter(self.node.epochs(last)) if self._node is not None else iter(())
        while (epoch := _ranks.lead(lambda: next(given, None))) is not None:
            yield epoch

    def epoch_end(self, num_examples: int, metrics: Mapping[str, Any] | None = None) -> None:
        """Publishes the model, folds, and writes what was folded into the model in place.

        In distributed training the number of examples is that of all processes together, and rank 0's number and
        metrics count. See `peerfold.FederatedNode.update` for its errors, which all processes raise. The optimizer
        keeps its moments.
        """
        self._epoch = int(_ranks.lead(lambda: self._end(num_examples, metrics)))
        self._take_over()

    def _end(self, num_examples: int, metrics: Mapping[str, Any] | None) -> int:
        trained = weights(self.model, self.mapping)
        load(self.model, self.node.update(trained, num_examples, metrics, self._state(), copy=False), self.mapping)
        return self.node.epoch

    def take_back(self) -> None:
        """Gives the model the weights of the last complete epoch again: what was trained since is dropped."""
        _ranks.lead(lambda: load(self.model, self.node.weights(), self.mapping))
        self._take_over()

    def finish(self) -> None:
        """The end of the run: see `peerfold.FederatedNode.finish`."""
        if self._node is None and _ranks.count() == 1:
            # The process group was destroyed before.
            return
        _ranks.lead(lambda: self.node.finish())

"""PyTorch: one call at the end of an epoch.

    federation = peerfold.torch.Federation(node, model, optimizer)
    for epoch in federation.epochs(10):
        train(model, optimizer)
        federation.epoch_end(num_examples=len(data), metrics={"loss": loss})
    federation.finish()

Names are those of `state_dict`, so a saved model loads by `load_state_dict`. Tensors that are tied, so that several
names share one memory, are shared under the first of their names. Models within `DistributedDataParallel`,
`DataParallel` and `torch.compile` are found. In distributed training every process runs these lines: the node of rank
0 does everything, and its weights are broadcast to the others.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from . import _ranks
from ._errors import CheckpointError, UsageError, WeightsError
from ._node import FederatedNode

#: Names in the state of a `Federation`.
_JSON, _TENSOR, _EXTRA = "json", "tensor", "extra"


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


def weights(module: Any) -> dict[str, Any]:
    """The tensors of a model by the names of its `state_dict`, tied ones once. They share the model's memory.

    What a `state_dict` has besides tensors isn't among them.
    """
    seen: set[tuple[Any, ...]] = set()
    found = {}
    for name, value in unwrapped(module).state_dict().items():
        if isinstance(value, torch.Tensor) and (place := _place(value)) not in seen:
            seen.add(place)
            found[name] = value
    return found


def load(module: Any, new: Mapping[str, Any]) -> None:
    """Writes weights into a model in place: parameters stay the same objects, so optimizers go on with them.

    Raises `WeightsError` for names or shapes that the model doesn't have; then nothing is changed.
    """
    own = weights(module)
    for name, value in new.items():
        if name not in own:
            raise WeightsError(f"the model has no tensor {name}")
        if tuple(own[name].shape) != tuple(value.shape):
            raise WeightsError(f"{name} has the shape {tuple(value.shape)}, and the model's {tuple(own[name].shape)}")
    with torch.no_grad():
        for name, value in new.items():
            own[name].copy_(value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value)))


def optimizer_state(optimizer: Any) -> dict[str, Any]:
    """An optimizer's state as tensors by name, and the rest as JSON: nothing is pickled.

    Raises `WeightsError` if it has something that is neither.
    """
    state = optimizer.state_dict()
    tensors: dict[str, Any] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, entries in state["state"].items():
        for name, value in entries.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{_TENSOR}/{index}/{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    try:
        text = json.dumps({"groups": state["param_groups"], "state": plain})
    except TypeError as error:
        raise WeightsError(f"the optimizer's state has what is neither a tensor nor a figure: {error}") from error
    tensors[_JSON] = np.frombuffer(text.encode(), np.uint8)
    return tensors


def load_optimizer_state(optimizer: Any, saved: Mapping[str, Any]) -> None:
    """What `optimizer_state` gave, for an optimizer of the same parameters. Raises `CheckpointError` if it isn't."""
    try:
        plain = json.loads(bytes(np.asarray(saved[_JSON])))
        state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in plain["state"].items()}
        for key, value in saved.items():
            kind, _, rest = key.partition("/")
            if kind == _TENSOR:
                index, _, name = rest.partition("/")
                tensor = value if isinstance(value, torch.Tensor) else torch.from_numpy(np.array(value))
                state.setdefault(int(index), {})[name] = tensor
        groups = [
            {
                name: tuple(value) if isinstance(value, list) and name != "params" else value
                for name, value in group.items()
            }
            for group in plain["groups"]
        ]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"the saved state isn't one of this optimizer: {error}") from error


class Federation:
    """A model in training, and the node that federates it.

    In distributed training, where `torch.distributed` is initialised, every process makes one and calls the same
    methods. The node of rank 0 does everything, and the others get its weights; they may be given `None` as a node. Let
    the process group's timeout be longer than the node may wait for its peers.
    """

    def __init__(self, node: FederatedNode | None, model: Any, optimizer: Any = None, scheduler: Any = None) -> None:
        """Begins: the model gets the weights to train on from, and the optimizer what it had before a crash.

        Args:
            node: An asynchronous or synchronous node that has not begun.
            model: The model, on any device.
            optimizer: Its optimizer, whose state then survives a crash.
            scheduler: A schedule of learning rates whose `state_dict` has only figures; likewise.

        Raises what `peerfold.FederatedNode.begin` raises, and `UsageError` if the process of rank 0 has no node.
        """
        self.model, self.optimizer, self.scheduler = model, optimizer, scheduler
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
            raise UsageError("in distributed training the process of rank 0 has the node, and the others have none")
        return self._node

    @property
    def epoch(self) -> int:
        """The last complete epoch, in every process."""
        return self._epoch

    def _begin(self) -> int:
        node = self.node
        load(self.model, node.begin(weights(self.model), self._state(), copy=False))
        return node.epoch

    def _take_over(self) -> None:
        """Makes the weights those of rank 0, where there are others."""
        _ranks.spread(weights(self.model).values())

    def _state(self) -> dict[str, Any]:
        state = {} if self.optimizer is None else optimizer_state(self.optimizer)
        if self.scheduler is not None:
            try:
                text = json.dumps(self.scheduler.state_dict(), default=_figure)
            except TypeError as error:
                raise WeightsError(f"the scheduler's state has what is no figure: {error}") from error
            state[f"{_EXTRA}/scheduler"] = np.frombuffer(text.encode(), np.uint8)
        return state

    def _load_state(self, state: Mapping[str, Any]) -> None:
        if self.optimizer is not None and _JSON in state:
            load_optimizer_state(self.optimizer, state)
        if self.scheduler is not None and f"{_EXTRA}/scheduler" in state:
            self.scheduler.load_state_dict(json.loads(bytes(np.asarray(state[f"{_EXTRA}/scheduler"]))))

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
        load(self.model, self.node.update(weights(self.model), num_examples, metrics, self._state(), copy=False))
        return self.node.epoch

    def take_back(self) -> None:
        """Gives the model the weights of the last complete epoch again: what was trained since is dropped."""
        _ranks.lead(lambda: load(self.model, self.node.weights()))
        self._take_over()

    def finish(self) -> None:
        """The end of the run: see `peerfold.FederatedNode.finish`."""
        _ranks.lead(lambda: self.node.finish())


def _figure(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    raise TypeError(f"{value!r} is no figure")

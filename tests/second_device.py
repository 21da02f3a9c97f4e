"""A GPU that is none: tensors that were asked for on `cuda` lie on the processor, and mixing them with others is the error
that it would be on a real one."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
NAMING = {torch.device, torch._C._nn._parse_to}
MOVING = {torch.Tensor.to, torch.Tensor.cpu, torch.Tensor.cuda}
INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten._index_put_impl_.default}


class Mixed(RuntimeError):
    """An operation on tensors of both devices."""


@contextlib.contextmanager
def pretended_gpu() -> Iterator[Counter[str]]:
    """Within, `cuda` is a device of torch; gives how many operations were on each. It is slow, and knows nothing of kernels,
    streams and precision."""
    memory, operations = _Memory(), Counter[str]()
    with _Requests(memory), _Operations(memory, operations):
        yield operations


class _Memory:
    """On which device storages are, by address. A weak reference to each keeps its address from being given out again.

    Storages that torch makes for itself, such as zeros for a gradient that there is none of, are on no device, and go with any:
    it takes their device from a tensor that it sees on the processor.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[StorageWeakRef, torch.device | None]] = {}

    def place(self, tensor: torch.Tensor) -> torch.device | None:
        return self.known[_storage(tensor)][1] if _storage(tensor) in self.known else CPU

    def put(self, tensor: torch.Tensor, device: torch.device | None) -> None:
        self.known[_storage(tensor)] = StorageWeakRef(tensor.untyped_storage()), device


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


class _Requests(TorchFunctionMode):
    """What Python code asks for: `device=`, `.to`, `.cpu()`, and on which device a tensor is."""

    def __init__(self, memory: _Memory) -> None:
        super().__init__()
        self.memory = memory

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function in NAMING:
            return function(*args, **kwargs)
        if function == torch.Tensor.device.__get__:
            real = function(*args)
            return (self.memory.place(args[0]) or CPU) if real.type == "cpu" else real  # `meta` is one, too
        if function == torch.Tensor.is_cuda.__get__:
            return self.memory.place(args[0]) == GPU
        asked = [_as_device(each) for each in (*args, *kwargs.values()) if _as_device(each) is not None]
        if function in MOVING:
            other = [each for each in args[1:2] if isinstance(each, torch.Tensor)]
            asked += [self.memory.place(each) or CPU for each in other]
            asked += [GPU] if function is torch.Tensor.cuda else [CPU] if function is torch.Tensor.cpu else []
        if function is torch.Tensor.backward:
            with self:  # layers that are computed again ask, too
                return torch.autograd.backward(args[0], kwargs.pop("gradient", None), **kwargs)
        args, kwargs = tree_map(_here, args), {name: tree_map(_here, value) for name, value in kwargs.items()}
        result = function(*args, **kwargs)
        if function in MOVING:
            return self._moved(args[0], result, asked[0] if asked else None)
        made = not any(isinstance(each, torch.Tensor) for each in tree_leaves((args, kwargs)))
        if asked or made:
            for each in tree_leaves(result):
                if isinstance(each, torch.Tensor):
                    self.memory.put(each, asked[0] if asked else CPU)
        return result

    def _moved(self, tensor: torch.Tensor, result: torch.Tensor, device: torch.device | None) -> torch.Tensor:
        device = device or self.memory.place(tensor)
        if device != self.memory.place(tensor) and _storage(result) == _storage(tensor):
            result = result.clone()
        self.memory.put(result, device)
        return result


class _Operations(TorchDispatchMode):
    """What torch computes, forward and backward: all of it on one device."""

    def __init__(self, memory: _Memory, operations: Counter[str]) -> None:
        super().__init__()
        self.memory, self.operations = memory, operations

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        inputs = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, torch.Tensor)]
        counted = {self.memory.place(each) for each in self._counted(function, args, inputs)} - {None}
        if len(counted) > 1:
            raise Mixed(f"{function}: {[(tuple(each.shape), str(self.memory.place(each))) for each in inputs]}")
        result = function(*args, **(kwargs or {}))
        places = [self.memory.place(each) for each in inputs]
        device = GPU if GPU in places else CPU if CPU in places else None
        self.operations[device.type if device else "neither"] += 1
        known = {_storage(each) for each in inputs}
        for each in tree_leaves(result):
            if isinstance(each, torch.Tensor) and _storage(each) not in known:
                self.memory.put(each, device)
        return result

    def _counted(self, function: Any, args: Any, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
        """The tensors that must be of one device: a number on the processor goes with any, and so do its indices."""
        if function is torch.ops.aten.copy_.default:
            return []
        if function in INDEXING:
            indices = [each for each in tree_leaves(args[1]) if isinstance(each, torch.Tensor)]
            inputs = [args[0], *args[2:3], *(each for each in indices if self.memory.place(each) == GPU)]
        return [each for each in inputs if each.ndim or self.memory.place(each) == GPU]


def _as_device(value: Any) -> torch.device | None:
    if isinstance(value, torch.device):
        return GPU if value.type == "cuda" else value if value.type == "cpu" else None
    if isinstance(value, str) and value.partition(":")[0] in ("cuda", "cpu"):
        return _as_device(torch.device(value))
    return None


def _here(value: Any) -> Any:
    """The processor, wherever the GPU was named."""
    return CPU if _as_device(value) == GPU else value

"""How much memory a model computes with, from its shapes alone: tensors without numbers in them.

The real network runs forwards and backwards on fake tensors, and every storage is counted while it lives.
That is exact for what the operators hand to each other, and knows nothing of their scratch memory.
"""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Meter(TorchDispatchMode):
    """`peak`: most bytes that lived at once, without those of the tensors `known` before."""

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._live = 0
        self._kept = [tensor.untyped_storage() for tensor in known]
        self._seen: dict[int, Any] = {storage._cdata: None for storage in self._kept}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._live += size
        self.peak = max(self.peak, self._live)
        self._seen[key] = weakref.ref(storage, lambda _: self._drop(key, size))

    def _drop(self, key: int, size: int) -> None:
        self._live -= size
        del self._seen[key]


@contextmanager
def norms_in_fp32(wanted: bool) -> Iterator[None]:
    """Run normalisations as CUDA's autocast does; a CPU's leaves them in bf16."""
    plain = F.group_norm, F.layer_norm
    if wanted:
        F.group_norm, F.layer_norm = (_in_fp32(function) for function in plain)
    try:
        yield
    finally:
        F.group_norm, F.layer_norm = plain


def _in_fp32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def wide(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) else value

    def normalise(*values: Any, **named: Any) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return function(*map(wide, values), **{name: wide(value) for name, value in named.items()})

    return normalise


def fake(module: nn.Module) -> None:
    """Give `module` parameters without numbers. Call it within a FakeTensorMode."""
    for part in module.modules():
        for name, tensor in part._parameters.items():
            if tensor is not None:
                empty = torch.empty(tensor.shape, dtype=tensor.dtype)
                part._parameters[name] = nn.Parameter(empty, requires_grad=tensor.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def peak_of(module: nn.Module, work: Callable[[], Tensor], *, bf16: bool = False, cuda: bool = False) -> int:
    """Bytes that `work` computes with; where its result needs a gradient, that is computed too.

    `work` makes its own inputs and calls `module`. `bf16` = under autocast, `cuda` as on a CUDA device.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), norms_in_fp32(cuda and bf16):
        fake(module)
        meter = Meter([*module.parameters(), *module.buffers()])
        with meter:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                result = work()
            if result.requires_grad:
                result.float().square().mean().backward()
    return meter.peak

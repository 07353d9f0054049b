"""Blocks of a transformer that wait in host memory and come to the device for their turn.

A block computes with copies of its frozen weights that live for this moment. With gradient checkpointing the
backward pass computes the block again from fresh copies, and autograd lets go of them once the block is
through: about one block is on the device at a time, and every number stays the same. What moves weights in
and out by itself (diffusers' group offloading) takes them away before that backward pass.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

PIECE = 1 << 30
"""Bytes of host memory that are taken at once."""
ALIGNED = 256
"""Bytes that a weight's place is a multiple of."""


def stream(network: nn.Module, device: torch.device) -> None:
    """Everything but the blocks goes to `device`; of the blocks, what learns. Names stay as they are."""
    lists = dict(block_lists(network))
    for name in lists:
        setattr(network, name, nn.ModuleList())
    network.to(device)
    outside = Outside(pinned=device.type == "cuda")
    for name, blocks in lists.items():
        setattr(network, name, blocks)
        for block in blocks:
            _leave(block, outside, device)
            take_turns(block, device)


def take_turns(block: nn.Module, device: torch.device) -> None:
    """Let a block compute with copies on `device` of its frozen weights, wherever these are."""
    block.forward = _Turn(block, device)


def block_lists(network: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    """The blocks of a transformer by the name of their list."""
    return ((name, part) for name, part in network.named_children() if isinstance(part, nn.ModuleList))


def brought(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device`, also where the tensor is there already."""
    return tensor.clone() if tensor.device == device else tensor.to(device, non_blocking=True)


class _Turn:
    """What a block's forward pass is instead: its own one, with copies in place of its frozen weights."""

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        self._within, self._device = _Within(block), device

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        within = self._within
        tensors = chain(within.named_parameters(), within.named_buffers())
        copies = {name: brought(tensor, self._device) for name, tensor in tensors if not tensor.requires_grad}
        return functional_call(within, copies, args, kwargs, tie_weights=False)


class _Within(nn.Module):
    """A block whose call is its own forward pass, whatever has taken its place since."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self._own = block, block.forward

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._own(*args, **kwargs)


class Outside:
    """Host memory in large pieces, pinned beside a card: copies from there go faster, and nobody waits.

    A piece has a power of two bytes, which is what torch rounds pinned memory up to; weights lie in it one
    after the other, since rounding each of them would take half as much again.
    """

    def __init__(self, *, pinned: bool) -> None:
        self._pinned, self._used = pinned, 0
        self._piece = torch.empty(0, dtype=torch.uint8)

    def put(self, tensor: Tensor) -> Tensor:
        """The same numbers in this memory; of a tensor that is made of others, theirs."""
        kind: Any = type(tensor)
        if hasattr(kind, "__tensor_flatten__"):
            names, rest = kind.__tensor_flatten__(tensor)
            parts = {name: self.put(getattr(tensor, name)) for name in names}
            return kind.__tensor_unflatten__(parts, rest, tensor.shape, tensor.stride())
        begin = -(-self._used // ALIGNED) * ALIGNED
        if begin + tensor.nbytes > len(self._piece):
            size = max(PIECE, 1 << (tensor.nbytes - 1).bit_length())
            self._piece, begin = torch.empty(size, dtype=torch.uint8, pin_memory=self._pinned), 0
        self._used = begin + tensor.nbytes
        place = self._piece[begin : self._used].view(tensor.dtype).view(tensor.shape)
        return place.copy_(tensor)


def _leave(block: nn.Module, outside: Outside, device: torch.device) -> None:
    for module in block.modules():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.requires_grad:
                tensor.data = tensor.data.to(device)
            else:
                setattr(module, name, nn.Parameter(outside.put(tensor.detach()), requires_grad=False))

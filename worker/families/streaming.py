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


def stream(network: nn.Module, device: torch.device) -> None:
    """Everything but the blocks goes to `device`; of the blocks, what learns. Names stay as they are."""
    lists = dict(block_lists(network))
    for name in lists:
        setattr(network, name, nn.ModuleList())
    network.to(device)
    for name, blocks in lists.items():
        setattr(network, name, blocks)
        for block in blocks:
            _leave_outside(block, device)
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


def _leave_outside(block: nn.Module, device: torch.device) -> None:
    for module in block.modules():
        for name, tensor in module.named_parameters(recurse=False):
            if tensor.requires_grad:
                tensor.data = tensor.data.to(device)
            elif device.type == "cuda":  # copies go faster from pages that stay where they are
                setattr(module, name, nn.Parameter(tensor.detach().pin_memory(), requires_grad=False))

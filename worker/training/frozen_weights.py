"""How a network holds the weights that do not learn: whole on the device, waiting in host memory, or as int8.

A block that is streamed computes with copies of its frozen weights that live for this moment. With gradient
checkpointing the backward pass computes the block again from fresh copies, and autograd lets go of them once
the block is through: about one block is on the device at a time, and every number stays the same. What moves
weights in and out by itself (diffusers' group offloading) takes them away before that backward pass.
"""

from collections.abc import Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig, quantize_

from app.contract.jobs import TrainJob
from worker.families.base import Parts


class Streamed(nn.Module):
    """A block whose frozen weights wait in host memory; what learns is on `device` and stays there."""

    def __init__(self, block: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.block, self.device = block, device
        for module in block.modules():
            for name, tensor in module.named_parameters(recurse=False):
                if tensor.requires_grad:
                    tensor.data = tensor.data.to(device)
                elif device.type == "cuda":  # copies go faster from pages that stay where they are
                    waiting = tensor.detach().pin_memory()
                    setattr(module, name, nn.Parameter(waiting, requires_grad=False))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        tensors = chain(self.block.named_parameters(), self.block.named_buffers())
        copies = {name: brought(tensor, self.device) for name, tensor in tensors if not tensor.requires_grad}
        return functional_call(self.block, copies, args, kwargs, tie_weights=False)


def brought(tensor: Tensor, device: torch.device) -> Tensor:
    """A copy on `device`, also where the tensor is there already."""
    return tensor.clone() if tensor.device == device else tensor.to(device, non_blocking=True)


def settle(parts: Parts, job: TrainJob) -> None:
    """Bring the networks to the device, adapters included, with their weights held as `job` says."""
    for network in parts.networks.values():
        if job.quantised:
            quantise(network)
        if job.streamed:
            stream(network, parts.device)
        else:
            network.to(parts.device)


def stream(network: nn.Module, device: torch.device) -> None:
    """Everything but the blocks goes to `device`; of the blocks, what learns."""
    lists = dict(_lists(network))
    for name in lists:
        setattr(network, name, nn.ModuleList())
    network.to(device)
    for name, blocks in lists.items():
        setattr(network, name, nn.ModuleList(Streamed(block, device) for block in blocks))


def quantise(network: nn.Module) -> None:
    """Hold every frozen linear layer in the network's blocks as int8 with one scale for each row."""
    for _, blocks in _lists(network):
        quantize_(blocks, Int8WeightOnlyConfig(), filter_fn=_frozen_linear)


def whole(weight: Tensor) -> Tensor:
    """The numbers of a weight that may be held as int8."""
    return weight.dequantize() if isinstance(weight, Int8Tensor) else weight


def words(job: TrainJob) -> Iterator[str]:
    """What a person should read of it in the log."""
    if job.streamed:
        yield (
            "The model's blocks wait in the machine's own memory and come for their turn: steps are slower, "
            "the numbers are the same."
        )
    if job.quantised:
        yield "The base model's blocks are held with 8 bits a weight while the LoRA learns."


def _lists(network: nn.Module) -> Iterator[tuple[str, nn.ModuleList]]:
    """The blocks of a transformer by the name of their list."""
    return ((name, part) for name, part in network.named_children() if isinstance(part, nn.ModuleList))


def _frozen_linear(module: nn.Module, _: str) -> bool:
    return isinstance(module, nn.Linear) and not module.weight.requires_grad

"""How the networks hold what does not learn: whole on the device, waiting in host memory, or as int8."""

from collections.abc import Iterator

from torch import Tensor, nn
from torchao.quantization import Int8Tensor, Int8WeightOnlyConfig, quantize_

from app.contract.jobs import TrainJob
from worker.families.base import Parts
from worker.families.streaming import block_lists, stream


def settle(parts: Parts, job: TrainJob) -> None:
    """Bring the networks to the device, adapters included, with their weights held as `job` says."""
    for network in parts.networks.values():
        if job.quantised:
            quantise(network)
        if job.streamed:
            stream(network, parts.device)
        else:
            network.to(parts.device)


def quantise(network: nn.Module) -> None:
    """Hold every frozen linear layer in the network's blocks as int8 with one scale for each row."""
    for _, blocks in block_lists(network):
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


def _frozen_linear(module: nn.Module, _: str) -> bool:
    return isinstance(module, nn.Linear) and not module.weight.requires_grad

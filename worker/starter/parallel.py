"""Training on several single-threaded processes that average their weights now and then.

Two threads in one process wait for each other thousands of times a step, and on a machine
that does other work each wait can cost a time slice. Processes that meet every few steps
do not, and the average of their weights behaves like one run with a larger batch.
"""

import os
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

MEET_EVERY = 8


def join_workers(rendezvous: Path, rank: int, workers: int) -> None:
    """Connects this process with the others through a file; one thread each."""
    torch.set_num_threads(1)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = dist.FileStore(str(rendezvous), workers)  # type: ignore[attr-defined]
    dist.init_process_group("gloo", store=store, rank=rank, world_size=workers)


def rank() -> int:
    """This process's number; 0, which logs and saves, where there is only one."""
    return dist.get_rank() if dist.is_initialized() else 0


@torch.no_grad()
def average_weights(model: nn.Module) -> None:
    """Every process leaves with the mean of all processes' parameters."""
    if not dist.is_initialized():
        return
    parameters = [parameter.data for parameter in model.parameters()]
    flat = torch.cat([parameter.reshape(-1) for parameter in parameters])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for parameter, mean in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
        parameter.copy_(mean.view_as(parameter))


def agree(value: float) -> float:
    """Rank 0's number for everybody, so that all stop after the same step."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(shared, src=0)
    return float(shared)

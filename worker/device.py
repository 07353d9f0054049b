"""The device that this process computes on: which, how much memory, and what to say when it is full."""

import contextlib
import re
import resource
import sys
from pathlib import Path

import torch

from worker.ram import free_ram, total_ram

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
STATUS = Path("/proc/self/status")


def choose_device() -> torch.device:
    """The NVIDIA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def prepare(device: torch.device, threads: int) -> None:
    """Set what torch would otherwise guess: CPU threads, and repeatable kernels where that is free."""
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.backends.cudnn.deterministic = True
        torch.set_float32_matmul_precision("high")
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Most bytes that this process held since `reset_peak`: device memory on CUDA, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if STATUS.exists():  # getrusage would also tell what the process that started this one held
        found = re.search(r"^VmHWM:\s*(\d+) kB", STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def reset_peak(device: torch.device) -> None:
    """Begin to look for the peak anew, where the system can do that."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif STATUS.exists():
        with contextlib.suppress(OSError):
            STATUS.with_name("clear_refs").write_text("5")


def total_memory(device: torch.device) -> int:
    """Bytes that the device has in all."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return total_ram()


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return free_ram()


def describe(device: torch.device) -> str:
    """What a person would call it: `NVIDIA H100`, `CPU`."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this error means that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
    )


def out_of_memory_words(device: torch.device, phase: str) -> str:
    """What happened and what to do, for the person who waits."""
    size = total_memory(device) / 2**30
    remedy = {
        "caching": "Choose a smaller resolution.",
        "sampling": "Choose smaller sample pictures, or none.",
    }.get(phase, "Choose a smaller batch size or resolution, or switch gradient checkpointing on.")
    return f"The memory was full while {phase} ({describe(device)}, {size:.0f} GB). {remedy}"

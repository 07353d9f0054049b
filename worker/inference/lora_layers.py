"""What LoRA files do to one layer, as changes to its weight: LoRA, LoCon, LoHa, LoKr, full, norm, DoRA.

Conventions are LyCORIS's, which kohya's scripts, A1111 and ComfyUI follow. A scale is alpha / rank
(alpha 0 or none: 1); everything is computed in fp32. A layer says whether it fits a weight before
anything is computed, from shapes alone, so that a wrong file costs nothing.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol

import torch
from torch import Tensor

Parts = Mapping[str, Tensor]
"""Tensors of one layer by the parts of `app.recognition.lora_keys`."""


class Delta(Protocol):
    """What is added to a weight."""

    def fits(self, shape: torch.Size) -> bool: ...

    def of(self, weight: Tensor) -> Tensor:
        """The change at strength 1: fp32, `weight`'s shape and device."""
        ...


@dataclass(frozen=True)
class LowRank:
    """up [out, r] · down [r, in, …]; with Tucker's core `mid` [r, r, …], and `down` of one pixel."""

    down: Tensor
    up: Tensor
    scale: float
    mid: Tensor | None = None

    def fits(self, shape: torch.Size) -> bool:
        rank = self.down.shape[0] if self.down.dim() > 1 else 0
        if rank == 0 or self.up.dim() < 2 or self.up.shape[0] != shape[0]:
            return False
        if self.mid is None:
            return self.up[0].numel() == rank and self.down[0].numel() == prod(shape[1:])
        return (
            self.mid.shape == (self.up[0].numel(), rank, *shape[2:])
            and len(shape) > 2
            and self.down[0].numel() == shape[1]
        )

    def factors(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """[out, r] and [r, in · …]: their product is the change, but for the scale."""
        up, down = (_fp32(t, device).flatten(1) for t in (self.up, self.down))
        if self.mid is not None:
            down = torch.einsum("ij...,jr->ir...", _fp32(self.mid, device), down).flatten(1)
        return up, down

    def of(self, weight: Tensor) -> Tensor:
        up, down = self.factors(weight.device)
        return (up @ down).mul_(self.scale).view(weight.shape)


@dataclass(frozen=True)
class Hadamard:
    """LoHa: (w1_a · w1_b) ∘ (w2_a · w2_b); with cores t1, t2 each is Tucker's product."""

    pairs: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]
    scale: float
    cores: tuple[Tensor, Tensor] | None = None

    def fits(self, shape: torch.Size) -> bool:
        if any(tensor.dim() != 2 for pair in self.pairs for tensor in pair):
            return False
        if self.cores is None:
            wanted = (shape[0], prod(shape[1:]))
            return all(a.shape[1] == b.shape[0] and (a.shape[0], b.shape[1]) == wanted for a, b in self.pairs)
        return len(shape) > 2 and all(
            core.shape == (a.shape[0], b.shape[0], *shape[2:]) and (a.shape[1], b.shape[1]) == shape[:2]
            for core, (a, b) in zip(self.cores, self.pairs, strict=True)
        )

    def of(self, weight: Tensor) -> Tensor:
        pairs = [tuple(_fp32(tensor, weight.device) for tensor in pair) for pair in self.pairs]
        if self.cores is None:
            first, second = (a @ b for a, b in pairs)
        else:
            cores = (_fp32(core, weight.device) for core in self.cores)
            first, second = (tucker(t, a, b) for t, (a, b) in zip(cores, pairs, strict=True))
        return (first * second).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class Kronecker:
    """LoKr: w1 ⊗ w2. Each is whole (one tensor) or a product a · b; w2 may have Tucker's core."""

    first: tuple[Tensor, ...]
    second: tuple[Tensor, ...]
    scale: float
    core: Tensor | None = None

    def fits(self, shape: torch.Size) -> bool:
        first, second = product_shape(self.first), product_shape(self.second, self.core)
        if first is None or second is None or len(first) != 2:
            return False
        kernel = tuple(shape[2:])
        same_kernel = len(second) == 2 or tuple(second[2:]) == kernel
        inputs = first[1] * prod(second[1:])
        return same_kernel and first[0] * second[0] == shape[0] and inputs == prod(shape[1:])

    def of(self, weight: Tensor) -> Tensor:
        first = _product(self.first, None, weight.device)
        second = _product(self.second, self.core, weight.device)
        first = first.reshape(*first.shape, *[1] * (second.dim() - 2))
        return torch.kron(first, second.contiguous()).mul_(self.scale).reshape(weight.shape)


@dataclass(frozen=True)
class Whole:
    """The change itself, as `diff`, `w_norm`, `diff_b` and `b_norm` are."""

    diff: Tensor

    def fits(self, shape: torch.Size) -> bool:
        return self.diff.numel() == prod(shape) and (not shape or self.diff.shape[:1] == shape[:1])

    def of(self, weight: Tensor) -> Tensor:
        return _fp32(self.diff, weight.device).reshape(weight.shape)


@dataclass(frozen=True)
class Decomposed:
    """DoRA: W' = m · (W + ΔW) / ‖W + ΔW‖, the norms taken over all but one dimension of the weight.

    `magnitude` [out, 1, …] has one number for each output, [1, in, 1, …] one for each input; LyCORIS
    has written both. Told by the first side, so a weight with one output means outputs.
    """

    inner: Delta
    magnitude: Tensor

    def fits(self, shape: torch.Size) -> bool:
        per_output = (shape[0], *[1] * (len(shape) - 1))
        per_input = (1, *shape[1:2], *[1] * (len(shape) - 2))
        return len(shape) > 1 and self.magnitude.shape in (per_output, per_input) and self.inner.fits(shape)

    def of(self, weight: Tensor) -> Tensor:
        whole = weight.float() + self.inner.of(weight)
        kept = 0 if self.magnitude.shape[0] == whole.shape[0] else 1
        others = [n for n in range(whole.dim()) if n != kept]
        norms = torch.linalg.vector_norm(whole, dim=others, keepdim=True) + torch.finfo(torch.float32).eps
        return whole.mul_(_fp32(self.magnitude, weight.device) / norms).sub_(weight)


@dataclass(frozen=True)
class Change:
    """What a file does to a layer: to its weight, its bias, or both."""

    weight: Delta | None = None
    bias: Whole | None = None

    def fits(self, shapes: Mapping[str, torch.Size]) -> bool:
        """`shapes` are those of the layer's `weight` and `bias`, as far as it has them."""
        changed = ((self.weight, shapes.get("weight")), (self.bias, shapes.get("bias")))
        return all(delta is None or (shape is not None and delta.fits(shape)) for delta, shape in changed)


def read_change(kinds: set[str], parts: Parts, scale_of: Callable[[int], float]) -> Change | None:
    """The change that these tensors describe; None where some are missing or are not known here.

    `scale_of` gives the scale for a rank where the file has no alpha.
    """
    left = dict(parts)
    bias = next((left.pop(name) for name in ("bias", "norm_bias") if name in left), None)
    magnitude = _magnitude(left)
    alpha = left.pop("alpha", None)
    if alpha is not None and alpha.numel() != 1:
        return None

    def scale(rank: int) -> float:
        if alpha is None or rank == 0:
            return scale_of(rank)
        return float(alpha.item() or rank) / rank

    weight = _weight(kinds, left, scale) if left else None
    if weight is None and (left or bias is None or magnitude is not None):
        return None
    if weight is not None and magnitude is not None:
        weight = Decomposed(weight, magnitude)
    return Change(weight, None if bias is None else Whole(bias))


def _magnitude(parts: dict[str, Tensor]) -> Tensor | None:
    """Take DoRA's magnitude out. PEFT's has one number for each output in any shape."""
    if (written := parts.pop("magnitude", None)) is not None:
        down = parts.get("down")
        return written.reshape(-1, *[1] * (max(2, down.dim() if down is not None else 2) - 1))
    return parts.pop("scale", None)


def _weight(kinds: set[str], parts: Parts, scale: Callable[[int], float]) -> Delta | None:
    """One kind of change to the weight, complete and with nothing else beside it."""
    for kind in kinds:
        if (read := _KINDS.get(kind)) and (found := read(dict(parts), scale)):
            return found
    return None


def _low_rank(parts: dict[str, Tensor], scale: Callable[[int], float]) -> Delta | None:
    if not {"down", "up"} <= set(parts) <= {"down", "up", "mid"}:
        return None
    return LowRank(parts["down"], parts["up"], scale(_rows(parts["down"])), parts.get("mid"))


def _hadamard(parts: dict[str, Tensor], scale: Callable[[int], float]) -> Delta | None:
    pairs = {"w1_a", "w1_b", "w2_a", "w2_b"}
    if set(parts) not in (pairs, pairs | {"t1", "t2"}):
        return None
    cores = (parts["t1"], parts["t2"]) if "t1" in parts else None
    two = (parts["w1_a"], parts["w1_b"]), (parts["w2_a"], parts["w2_b"])
    return Hadamard(two, scale(_rows(parts["w1_b"])), cores)


def _kronecker(parts: dict[str, Tensor], scale: Callable[[int], float]) -> Delta | None:
    core = parts.pop("t2", None)
    first = _one_or_two(parts, "w1")
    second = _one_or_two(parts, "w2")
    if not first or not second or parts or (core is not None and len(second) == 1):
        return None
    products = [pair for pair in (second, first) if len(pair) == 2]
    # Without a product there is no rank: LyCORIS gives no scale then, whatever alpha says.
    return Kronecker(first, second, scale(_rows(products[0][1])) if products else 1.0, core)


def _whole(parts: dict[str, Tensor], _scale: Callable[[int], float]) -> Delta | None:
    return Whole(next(iter(parts.values()))) if set(parts) in ({"diff"}, {"norm"}) else None


_KINDS = {"lora": _low_rank, "loha": _hadamard, "lokr": _kronecker, "full": _whole}


def _one_or_two(parts: dict[str, Tensor], name: str) -> tuple[Tensor, ...]:
    """Take out `name`, or else `name`_a and `name`_b; empty where neither is there."""
    for names in ((name,), (f"{name}_a", f"{name}_b")):
        if set(names) <= set(parts):
            return tuple(parts.pop(one) for one in names)
    return ()


def product_shape(factors: tuple[Tensor, ...], core: Tensor | None = None) -> tuple[int, ...] | None:
    """Shape of what `_product` gives, None where the factors do not fit each other."""
    if len(factors) == 1:
        return tuple(factors[0].shape) if factors[0].dim() > 1 else None
    a, b = factors
    if a.dim() != 2 or b.dim() != 2:
        return None
    if core is None:
        return (a.shape[0], b.shape[1]) if a.shape[1] == b.shape[0] else None
    fits = core.dim() > 2 and tuple(core.shape[:2]) == (a.shape[0], b.shape[0])
    return (a.shape[1], b.shape[1], *core.shape[2:]) if fits else None


def _product(factors: tuple[Tensor, ...], core: Tensor | None, device: torch.device) -> Tensor:
    found = [_fp32(factor, device) for factor in factors]
    if core is not None:
        return tucker(_fp32(core, device), found[0], found[1])
    return found[0] if len(found) == 1 else found[0] @ found[1]


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """core [i, j, …], a [i, out], b [j, in] → [out, in, …]."""
    return torch.einsum("ij...,ip,jr->pr...", core, a, b)


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.dim() > 1 else 0


def _fp32(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.to(device, torch.float32)

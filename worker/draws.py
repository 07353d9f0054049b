"""Random numbers that depend on what they are for, never on what was drawn before.

Each draw comes from a generator of its own, seeded with (seed, purpose, key): a resumed run draws
the same numbers as an uninterrupted one, and batch size or picture order change nothing else.
Draws are made on the CPU, so that they are the same on every device.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

Key = tuple[int, ...]


class Draws:
    """Draws of one run. A key is usually (step, position in the batch)."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def number(self, purpose: str, *key: int) -> int:
        """A seed of its own for (purpose, key): 63 bits."""
        text = "/".join((str(self._seed), purpose, *map(str, key)))
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1

    def generator(self, purpose: str, *key: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.number(purpose, *key))

    def normal(self, purpose: str, keys: Sequence[Key], shape: Sequence[int]) -> Tensor:
        """Standard normal numbers [len(keys), *shape], fp32."""
        return torch.stack(
            [torch.randn(tuple(shape), generator=self.generator(purpose, *key)) for key in keys]
        )

    def below(self, purpose: str, keys: Sequence[Key], limit: int) -> Tensor:
        """Whole numbers in [0, limit), one a key: [len(keys)], int64."""
        drawn = [torch.randint(limit, (1,), generator=self.generator(purpose, *key)) for key in keys]
        return torch.cat(drawn)

    def uniform(self, purpose: str, keys: Sequence[Key]) -> Tensor:
        """Numbers between 0 and 1, both left out, one a key: [len(keys)], fp64."""
        drawn = [torch.rand(1, generator=self.generator(purpose, *key), dtype=torch.float64) for key in keys]
        return torch.cat(drawn).clamp(min=1e-9, max=1 - 1e-9)

    def chance(self, purpose: str, share: float, *key: int) -> bool:
        """True in `share` (0-1) of all keys."""
        return share > 0 and bool(torch.rand(1, generator=self.generator(purpose, *key)).item() < share)

    def order(self, purpose: str, count: int, *key: int) -> list[int]:
        """A permutation of range(count)."""
        shuffled: list[int] = torch.randperm(count, generator=self.generator(purpose, *key)).tolist()
        return shuffled

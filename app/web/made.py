"""What was made of the same text before: bytes that follow from a text and a few words, and nothing else."""

import threading
from collections import OrderedDict
from collections.abc import Callable

Key = tuple[str, ...]


class Made:
    """The ones asked for last, up to `most` bytes. Nothing needs to be told of a change: another text is
    another key."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0
        self._found: OrderedDict[Key, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, key: Key, make: Callable[[], bytes]) -> bytes:
        with self._lock:
            found = self._found.get(key)
            if found is not None:
                self._found.move_to_end(key)
                return found
        made = make()
        with self._lock:
            if key not in self._found:
                self._keep(key, made)
        return made

    def _keep(self, key: Key, made: bytes) -> None:
        self._found[key] = made
        self.held += _size(key, made)
        while self.held > self.most:
            self.held -= _size(*self._found.popitem(last=False))


def _size(key: Key, made: bytes) -> int:
    """About the bytes in memory."""
    return len(made) + sum(len(part) for part in key) + 500

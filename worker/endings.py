"""How a child process ended, and whether the kernel killed it because the machine's memory was full."""

import signal

from worker import ram


def describe_ending(code: int) -> str:
    """A return code in words."""
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name


class MemoryWatch:
    """Made before a child starts its job; asked when it has died."""

    def __init__(self) -> None:
        self._before = ram.memory_kills()

    def killed(self, code: int) -> bool:
        """Whether it was killed, and the kernel has killed for memory since."""
        return -code == signal.SIGKILL and ram.memory_kills() > self._before

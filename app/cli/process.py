"""Starting and ending processes that must not be left behind."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

CHILD = Path(__file__).with_name("child.py")
Output = int | IO[bytes] | None


class SetupError(Exception):
    """Something about this machine or these settings; the message says what to do."""


def spawn(
    command: Sequence[str],
    *,
    death_signal: int = signal.SIGKILL,
    uid: int | None = None,
    env: Mapping[str, str] | None = None,
    output: Output = None,
) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own; it gets `death_signal` when this process dies in any way.

    Call it from the main thread: the kernel sends the signal when the *thread* ends that started it.
    """
    user = "-" if uid is None else str(uid)
    wrapper = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), str(int(death_signal)), user]
    return subprocess.Popen(
        [*wrapper, *command],
        env=None if env is None else dict(env),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output is not None else None,
        start_new_session=True,
        cwd="/" if uid is not None else None,
    )


def stop(process: subprocess.Popen[bytes], signum: int, timeout: float) -> None:
    """Ask with `signum`, wait, then kill the whole process group."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signum)
    try:
        process.wait(timeout)
    except subprocess.TimeoutExpired:
        kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

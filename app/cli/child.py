"""Runs one command so that it cannot outlive the process that asked for it.

Used as a script: `python -I -S child.py PARENT_PID SIGNAL UID COMMAND…`. The kernel's death
signal belongs to the process that asks for it and is dropped when the user changes, so the
order is: change user, ask for the signal, look whether the parent is still there, exec.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, death_signal: int, uid: str, command: list[str]) -> None:
    """Replace this process by `command`. `uid` is a number, or `-` to stay the same user."""
    libc = ctypes.CDLL(None, use_errno=True)
    if uid != "-":
        os.setgroups([])
        os.setgid(int(uid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        libc.prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])

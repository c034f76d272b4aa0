"""What runs for a moment in every child, before it becomes the command proper.

It ties the child's life to the supervisor's, so that a supervisor that is killed outright leaves nothing
behind, and then replaces itself by the command: pid, environment and open files stay. A program of its own,
because the other place for this (`preexec_fn`) is not safe in a process with threads. It imports nothing of the
project and is run as `python -I -S launch.py MODE SUPERVISOR_PID COMMAND ARG...` (about 15 ms).

MODE `prctl` (Linux): the kernel kills the child when its parent dies.
MODE `pipe` (elsewhere): a small watcher process kills the child's group when standard input, whose other end
the supervisor holds, is closed.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h
EXIT_NO_PARENT = 125
EXIT_NO_COMMAND = 127


def _ask_kernel() -> None:
    import ctypes  # noqa: PLC0415 - not needed elsewhere than on Linux

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _leave_watcher() -> None:
    if os.fork():
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        return
    os.read(0, 1)  # returns at end of file, and nobody ever writes
    os.killpg(os.getpgrp(), signal.SIGKILL)


def main() -> int:
    """Tie this process to the supervisor and become the command; return only if that cannot be."""
    mode, supervisor_pid, *command = sys.argv[1:]
    if mode == "prctl":
        _ask_kernel()
    else:
        _leave_watcher()
    if os.getppid() != int(supervisor_pid):  # it died before it could be watched
        return EXIT_NO_PARENT
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell is the point
    except OSError as exc:
        sys.stderr.write(f"cannot run {command[0]}: {exc.strerror}\n")
    return EXIT_NO_COMMAND


if __name__ == "__main__":
    sys.exit(main())

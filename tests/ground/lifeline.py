"""A process ends with the process that started it, whatever became of that one.

Finalizers and `atexit` do not run when a test session is killed (SIGKILL, out of memory,
`os._exit`), so the kernel is asked: PR_SET_PDEATHSIG, prctl(2). It survives `execve`, so this file,
run as a script, sets it and becomes the program named in its arguments; `tied` makes that command:

    python -I -S lifeline.py PARENT_PID SIGNAL PROGRAM [ARGUMENT ...]

Not `preexec_fn`: that runs Python between fork and exec in a process with threads, and would run
every `os.register_at_fork` hook, among them those of the library under test. Linux only. Imports
the standard library only.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def tied(*command: str, number: int = signal.SIGTERM) -> list[str]:
    """Return a command that runs `command`, and has it signalled when the thread that starts it ends.

    Args:
        command: A program and its arguments.
        number: The signal. SIGTERM lets a server end its workers, which nobody else would; SIGKILL
            reaches also who is paused.

    The thread must live as long as the session, as that of the tests does.
    """
    return [
        *(sys.executable, "-I", "-S", __file__),
        *(str(os.getpid()), str(int(number))),
        *command,
    ]


def die_with(parent: int, number: int = signal.SIGKILL) -> None:
    """Have this process signalled when the *thread* that started it ends; end now if `parent` did.

    Raises:
        OSError: The kernel refused.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    die_with(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])

"""Programs that tests start: each in a process group of its own, which is gone with the test, however that ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

PATIENCE = 1800.0  # seconds before a hanging program is given up: a machine may run many others
# that it is killed with the thread that started it, should that have no time to (prctl 1 is PR_SET_PDEATHSIG)
_TIED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):  # or it was gone before
    os.execvp(sys.argv[2], sys.argv[2:])
"""


@contextlib.contextmanager
def started(
    command: Sequence[Any], *, stderr: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    """A program while it runs; at the end of the block it is killed, with all that it started."""
    process = subprocess.Popen(
        [*_launcher(), *map(str, command)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE if stderr is None else stderr,
        text=True,
        env=env,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            _close(process.stdin)


def finished(
    command: Sequence[Any], *, input: str = "", env: Mapping[str, str] | None = None, patience: float = PATIENCE
) -> subprocess.CompletedProcess[str]:
    """A program that came to its end; `subprocess.TimeoutExpired` where it does not."""
    with started(command, env=env) as process:
        output, errors = process.communicate(input, timeout=patience)
    return subprocess.CompletedProcess(command, process.returncode, output, errors)


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str] | None = None) -> bool:
    """Wait for what is to happen while a program runs; whether it did, where the program ended before."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        if process is not None and process.poll() is not None:
            return happened()
        assert time.monotonic() < deadline, f"it did not happen within {PATIENCE:.0f} s"
        time.sleep(0.002)
    return True


def die(how: int, pipe: object) -> None:
    """A worker that says nothing; it begins at once, for nothing but the standard library is imported here."""
    if how < 0:
        os.kill(os.getpid(), -how)
    os._exit(how)


def _launcher() -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid())] if sys.platform == "linux" else []


def _close(pipe: IO[str] | None) -> None:
    if pipe is not None:
        with contextlib.suppress(OSError):  # what the program did not read
            pipe.close()

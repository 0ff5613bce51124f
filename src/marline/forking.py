"""Workers that need not import everything again: on Linux they are forked off a process that only did that."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from types import ModuleType

PATIENCE = 2.0  # seconds
PR_SET_PDEATHSIG = 1  # of prctl(2)


def worker_context() -> ForkServerContext | SpawnContext:
    """How workers are started.

    They may not be forked off this process, whose JAX has threads. Elsewhere than on Linux, whose libraries are known
    to bear it, each is a new Python.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["marline.study.local_engine"])
    return context


def begin_importing() -> None:
    """Start the process that workers are forked off: it imports JAX while this one does, if there are two cores."""
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        worker_context()
        resource_tracker.ensure_running()  # which would let signals through again
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C is not for it
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(process: BaseProcess) -> None:
    """Start a worker, which has no use for what stands in this one's script, and so does not run it once more.

    So a script needs no `if __name__ == "__main__":` around what it computes.
    """
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")  # which names no file that would be run
    try:
        process.start()
    finally:
        sys.modules["__main__"] = script


def end_with_parent() -> None:
    """Be killed when the process that workers are forked off is gone, as it is after this one's parent is.

    Even while the interpreter is held by something that takes long, and no thread can watch the parent.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def end_of(process: BaseProcess) -> str:
    """How a worker ended that said nothing."""
    process.join(PATIENCE)  # its pipe is closed a moment before it is gone
    code = process.exitcode
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}; was it out of memory?"
    return f"stopped without a word ({'it still ends' if code is None else f'exit status {code}'})"

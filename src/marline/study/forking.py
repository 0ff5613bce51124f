"""Workers that need not import everything again: on Linux they are forked off a process that only did that."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, SpawnContext


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

"""Seeds side by side: one process per core on a CPU, one program for all on an accelerator."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import jax

from marline import envs
from marline.campaign import study
from marline.configuration import RunConfig
from marline.errors import MarlineError
from marline.population import compile_ahead

Progress = Callable[[int, str, int], None]  # worker, what is going on, updates just done


def plan(seeds: Sequence[int], num_cores: int) -> list[list[int]]:
    """Which worker runs which seeds."""
    if jax.default_backend() != "cpu":
        return [list(seeds)]
    num_workers = min(num_cores, len(seeds))
    return [list(seeds[worker::num_workers]) for worker in range(num_workers)]


def run(folder: Path, config: RunConfig, shares: Sequence[Sequence[int]], progress: Progress) -> None:
    """Run or finish a study; each share of the seeds goes to a process of its own.

    Raises:
        MarlineError: what a worker reported, after the others were stopped; the run can be resumed.
    """
    if len(shares) == 1:
        _run_share(folder, config, shares[0], lambda text, done: progress(0, text, done))
        return
    sizes = {agent: (logs.spec, len(logs)) for agent, logs in study.prepare_data(folder, config).items()}
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        # on all cores, once; each worker would compile all of it on one core
        progress(0, "compiling", 0)
        compile_ahead(study.rehearse(config, sizes), len(shares))
    context = multiprocessing.get_context("spawn")
    trusted = config.task if config.task is not None and envs.is_trusted(config.task) else None
    processes: dict[Connection, SpawnProcess] = {}
    numbers: dict[Connection, int] = {}
    try:
        for number, seeds in enumerate(shares):
            ours, theirs = context.Pipe()
            assert isinstance(ours, Connection)  # a pipe of Windows is another type
            process = context.Process(target=_work, args=(folder, list(seeds), number, theirs, trusted), daemon=True)
            process.start()
            theirs.close()
            processes[ours], numbers[ours] = process, number
        _follow(processes, numbers, progress)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _follow(processes: dict[Connection, SpawnProcess], numbers: dict[Connection, int], progress: Progress) -> None:
    running = dict(processes)
    while running:
        for connection in multiprocessing.connection.wait(list(running)):
            assert isinstance(connection, Connection)
            try:
                kind, text, done = connection.recv()
            except EOFError:
                code = running.pop(connection).exitcode
                raise MarlineError(
                    f"a worker stopped without a word (exit status {code}); was it out of memory?"
                ) from None
            if kind == "error":
                raise MarlineError(text)
            if kind == "done":
                running.pop(connection)
            else:
                progress(numbers[connection], text, done)


def _work(folder: Path, seeds: list[int], number: int, parent: Connection, trusted: str | None) -> None:
    """The life of a worker: one core, no keyboard, no longer than its parent's, and no more trusting."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "sched_setaffinity"):  # before the first use of JAX, which sizes its thread pools by it
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        if trusted is not None:
            envs.trust(trusted)
        config = RunConfig.read(folder / "run.json")
        _run_share(folder, config, seeds, lambda text, done: parent.send(("progress", text, done)))
        parent.send(("done", "", 0))
    except MarlineError as error:
        parent.send(("error", str(error), 0))
    except Exception:  # a worker must tell its parent whatever goes wrong
        parent.send(("error", f"a worker failed:\n{traceback.format_exc()}", 0))


def _die_with(parent: Connection) -> None:
    try:
        parent.recv()
    except (EOFError, OSError):
        os._exit(1)


def _run_share(folder: Path, config: RunConfig, seeds: Sequence[int], progress: study.Progress) -> None:
    experiences = study.place_data(folder, config)
    together = jax.default_backend() != "cpu"
    for group in [tuple(seeds)] if together else [(seed,) for seed in seeds]:
        study.run_seeds(folder, config, experiences, group, progress)

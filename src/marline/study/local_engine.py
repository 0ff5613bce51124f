"""The engine of one machine, seeds side by side: a process per core on a CPU, one program for all on an accelerator."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import multiprocessing.connection
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import jax

from marline import plugins
from marline.configuration.planning import check_compatible
from marline.configuration.run_config import RunConfig
from marline.data.files import to_json
from marline.errors import MarlineError
from marline.forking import end_of, end_with_parent, start, worker_context
from marline.population import compile_ahead, stacks
from marline.rollouts.pool import stepping
from marline.runs.driver import place_data
from marline.runs.layout import RunDirectory
from marline.runs.offline_logs import prepare_data
from marline.runtime import num_cores, release_memory
from marline.study import execution as study
from marline.study.engine import Progress
from marline.study.memory import Plan, available_memory, plan_memory
from marline.types import AgentID, Spec

# of JAX, what `marline.runtime` decides after a process that workers are forked off has begun
SETTINGS = (
    "jax_default_matmul_precision",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@dataclasses.dataclass(frozen=True)
class LocalEngine:
    """Each share of the seeds goes to a process of its own.

    Attributes:
        memory_share: of the device's memory, for what is stacked there: less than 1 where several studies run at once.
    """

    memory_share: float = 1.0

    def plan(self, seeds: Sequence[int]) -> list[list[int]]:
        """A share per core on a CPU; one on an accelerator, or where types are only here, as in a notebook."""
        if stacks() or not all(map(plugins.is_importable, plugins.trusted())):
            return [list(seeds)]
        num_workers = min(num_cores(), len(seeds))
        return [list(seeds[worker::num_workers]) for worker in range(num_workers)]

    def run(self, folder: Path, config: RunConfig, shares: Sequence[Sequence[int]], progress: Progress) -> None:
        """See `Engine`."""
        sizes = {agent: (logs.spec, len(logs)) for agent, logs in prepare_data(folder, config).items()}
        _compile_once(config, sizes, len(shares), lambda: progress(0, "compiling", 0))
        release_memory()
        if len(shares) > 1:
            _run_processes(folder, config, shares, progress)
            return
        if not stacks():
            for text, done in _run_share(folder, config, shares[0]):
                progress(0, text, done)
            return
        plan = plan_memory(config, sizes, shares[0], int(self.memory_share * available_memory()))
        print(f"note: {plan}", file=sys.stderr)
        # one core is for this process, which holds the accelerator
        with stepping(num_cores() - 1):
            for text, done in _run_stacked(folder, config, plan):
                progress(0, text, done)


def _run_processes(folder: Path, config: RunConfig, shares: Sequence[Sequence[int]], progress: Progress) -> None:
    context = worker_context()
    settings = {name: jax.config.values[name] for name in SETTINGS}
    trusted = tuple(plugins.trusted())
    processes: dict[Connection, BaseProcess] = {}
    numbers: dict[Connection, int] = {}
    try:
        for number, seeds in enumerate(shares):
            ours, theirs = context.Pipe()
            assert isinstance(ours, Connection)  # a pipe of Windows is another type
            task = (folder, list(seeds), number, theirs, trusted, settings)
            process = context.Process(target=_work, args=task, daemon=True)
            start(process)
            theirs.close()
            processes[ours], numbers[ours] = process, number
        _follow(processes, numbers, progress)
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.join()


def _compile_once(
    config: RunConfig, sizes: Mapping[AgentID, tuple[Spec, int]], num_threads: int, begin: Callable[[], None]
) -> None:
    """Compile into JAX's cache what a run will need on a CPU, before its logs are placed in memory.

    For several workers that is done on all cores; each would compile all of it on one. A single worker compiles what
    it comes to, and nothing of samplers that are done. Even what is found compiled takes seconds to trace and to load.
    So a mark beside it says that a run of the same configuration has done this; where it lies, but not what was
    compiled, workers compile for themselves.
    """
    cache = jax.config.values["jax_compilation_cache_dir"]
    if not cache or stacks() or num_threads == 1:  # other programs, with learners stacked
        return
    versions = [importlib.metadata.version(name) for name in ("marline", "jax", "jaxlib")]
    described = [config.to_json(), {agent: [str(spec), rows] for agent, (spec, rows) in sizes.items()}, versions]
    mark = Path(cache) / f"marline-{hashlib.sha256(to_json(described).encode()).hexdigest()[:32]}"
    if mark.exists():
        return
    begin()
    compile_ahead(check_compatible(config, sizes), num_threads)
    with contextlib.suppress(OSError):  # JAX too goes on without a cache
        mark.touch()


def _follow(processes: dict[Connection, BaseProcess], numbers: dict[Connection, int], progress: Progress) -> None:
    running = dict(processes)
    while running:
        for connection in multiprocessing.connection.wait(list(running)):
            assert isinstance(connection, Connection)
            try:
                kind, text, done = connection.recv()
            except (EOFError, OSError):
                raise MarlineError(f"a worker {end_of(running.pop(connection))}") from None
            if kind == "error":
                raise MarlineError(text)
            if kind == "done":
                running.pop(connection)
            else:
                progress(numbers[connection], text, done)


def _work(
    folder: Path,
    seeds: list[int],
    number: int,
    parent: Connection,
    trusted: Sequence[str],
    settings: Mapping[str, Any],
) -> None:
    """The life of a worker: one core, no keyboard, no longer than its parent's, and no more trusting."""
    for number_of_signal in (signal.SIGINT, signal.SIGHUP):  # of the terminal: its parent ends it in order
        signal.signal(number_of_signal, signal.SIG_IGN)
    end_with_parent()
    if hasattr(os, "sched_setaffinity"):  # before the first use of JAX, which sizes its thread pools by it
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    for name, value in settings.items():
        jax.config.update(name, value)
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    try:
        plugins.trust(trusted)
        config = RunConfig.read(RunDirectory(folder).configuration)
        for text, done in _run_share(folder, config, seeds):
            parent.send(("progress", text, done))
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


def _run_share(folder: Path, config: RunConfig, seeds: Sequence[int]) -> Iterator[study.Step]:
    experiences = place_data(config, prepare_data(folder, config))
    if stacks():  # by a worker, which was told to
        yield from study.run_seeds(folder, config, experiences, seeds, [list(config.samplers)])
        return
    for seed in seeds:
        yield from study.run_seeds(folder, config, experiences, (seed,))


def _run_stacked(folder: Path, config: RunConfig, plan: Plan) -> Iterator[study.Step]:
    """Groups of seeds one after another, as many samplers of them at once as there is memory for."""
    experiences = place_data(config, prepare_data(folder, config))
    for seeds in plan.seeds:
        yield from study.run_seeds(folder, config, experiences, seeds, plan.samplers)

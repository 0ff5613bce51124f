"""`marline list, doctor`."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Mapping
from typing import Any

import jax
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import marline
from marline.algorithms import ALGORITHMS
from marline.cli.catalogue import ALGORITHM_LINES, SAMPLER_LINES, describe_task, works_with
from marline.cli.options.installation import Doctor, List
from marline.display.console import say, say_json
from marline.display.shell import command
from marline.envs import TASKS
from marline.population import stacks
from marline.runtime import no_accelerator, num_cores, set_up_jax


def list_catalogue(options: List) -> int:
    """`marline list`."""
    what = options.what
    everything = {
        "tasks": {name: task.description for name, task in TASKS.items()},
        "algorithms": ALGORITHM_LINES,
        "samplers": SAMPLER_LINES,
    }
    catalogue: dict[str, Any] = everything if what == "all" else {what: everything[what]}
    if what == "tasks":
        catalogue = {what: {name: describe_task(task) for name, task in TASKS.items()}}
    if options.json:
        pairs = {"pairs": {name: works_with(name) for name in ALGORITHMS}}
        say_json(catalogue | (pairs if what in ("all", "algorithms") else {}))
        return 0
    console = Console()
    for title, entries in catalogue.items():
        if what == "tasks":
            _print_tasks(console, entries)
            continue
        table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2))
        for name, line in entries.items():
            table.add_row(escape(name), escape(line))
        console.print(table)
    say(f"next: {command('demo')}, or a comparison at full size, which takes hours:")
    say(f"  {command('run', '--task', 'cooperative-navigation-4', '--run', 'runs/first')}")
    return 0


def _print_tasks(console: Console, tasks: Mapping[str, Mapping[str, str]]) -> None:
    for name, facts in tasks.items():
        table = Table(title=escape(name), title_justify="left", show_header=False, box=None, padding=(0, 2))
        for fact, text in facts.items():
            table.add_row(escape(fact), escape(text))
        console.print(table)


def doctor(options: Doctor) -> int:
    """`marline doctor`."""
    set_up_jax()
    packages = ("jax", "jaxlib", "equinox", "optax", "numpy", "scipy", "h5py", "safetensors", "tyro")
    began = time.monotonic()
    total = float(jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((64, 64))))
    facts = {
        "marline": marline.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        **devices(),
        "cores": num_cores(),
        "compilation cache": os.environ["JAX_COMPILATION_CACHE_DIR"],
        "a compiled product": "ok" if total == 64.0**3 else "WRONG",
        "compiled in": f"{time.monotonic() - began:.2f} s",
    }
    if options.json:
        say_json(facts)
    else:
        for name, fact in facts.items():
            say(f"{name:20} {fact}")
        say(f"next: {command('demo')}")
    return 0 if total == 64.0**3 else 1


def devices() -> dict[str, str]:
    """Which device is computed on and how, which others there are, and what it would take to change."""
    used = jax.devices()[0]
    if stacks():
        how = "learners of all seeds, agents and samplers stacked, robots stepped by the other cores"
    else:
        how = f"one learner after another, a process for each of {num_cores()} cores"
    others = [_described(other) for other in _of_all_kinds() if other.platform != used.platform]
    facts = {
        "device": f"{used.platform} x {len(jax.devices())}: {_described(used)}; {how}",
        "other devices": ", ".join(dict.fromkeys(others)) or no_accelerator(),
    }
    if others:
        other = "gpu" if used.platform == "cpu" else "cpu"
        facts["to switch"] = (
            f"--device {other}: all programs are compiled anew, and results are the same up to rounding, not to the "
            "bit; a run may go on there, unless with --strict"
        )
    return facts


def _of_all_kinds() -> list[Any]:
    found: list[Any] = []
    for kind in ("cpu", "gpu"):
        with contextlib.suppress(RuntimeError):  # there is none
            found += jax.devices(kind)
    return found


def _described(device: Any) -> str:
    stats = device.memory_stats() if device.platform != "cpu" else None
    size = (stats or {}).get("bytes_limit")
    return device.device_kind + (f" with {size / 2**30:.0f} GiB for JAX" if size else "")

"""What is compiled once for all workers, and by how many runs."""

from __future__ import annotations

import dataclasses
import multiprocessing
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from processes import die

from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.errors import MarlineError
from marline.samplers import Uniform
from marline.study import local_engine as workers
from marline.types import Spec

CONFIG = RunConfig(
    task="cooperative-navigation-2",
    algorithm=TD3BC(hidden=(4,)),
    samplers={"uniform": Uniform(batch_size=4)},
    updates=1,
    deployments=1,
    rows_per_deployment=4,
)


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    before = jax.config.values["jax_compilation_cache_dir"]
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", before)


def compile_once(config: RunConfig, rows: int = 8) -> bool:
    """Whether anything had to be done."""
    told: list[str] = []
    workers._compile_once(config, {"agent_0": (Spec(3, 1), rows)}, 2, lambda: told.append("compiling"))
    return bool(told)


@pytest.mark.slow
def test_what_a_run_compiled_no_other_of_its_kind_compiles(cache: Path) -> None:
    assert compile_once(CONFIG) and list(cache.iterdir())
    assert not compile_once(CONFIG)
    assert not compile_once(dataclasses.replace(CONFIG))
    assert compile_once(CONFIG, rows=9)


def test_without_a_cache_there_is_nothing_to_compile_into(cache: Path) -> None:
    jax.config.update("jax_compilation_cache_dir", None)
    assert not compile_once(CONFIG)


def test_a_worker_that_is_killed_is_told_with_the_signal() -> None:
    """Its pipe is closed a moment before its parent can fetch how it ended."""
    context = multiprocessing.get_context("spawn")
    for how, told in ((-signal.SIGKILL, "killed by SIGKILL"), (7, "exit status 7")):
        ours, theirs = context.Pipe()
        process = context.Process(target=die, args=(int(how), theirs))
        process.start()
        theirs.close()
        with pytest.raises(MarlineError, match=f"a worker (was|stopped without a word).*{told}"):
            workers._follow({ours: process}, {ours: 0}, lambda *_: None)  # pyright: ignore[reportArgumentType]

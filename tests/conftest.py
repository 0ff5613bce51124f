"""Settings that every test runs under."""

import fcntl
import functools
import gc
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before JAX is imported: results are stated for CPU, and an accelerator may be in use by others.
os.environ["JAX_PLATFORMS"] = "cpu"
# As marline's commands set it: or all programs would be compiled once more after the first command of a process.
os.environ.setdefault("JAX_DEFAULT_MATMUL_PRECISION", "highest")
# Most of what a test costs is compiling; programs half as quick are compiled in a quarter of the time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)

import hypothesis
import jax
import pytest

LARGE = 2 << 30  # bytes

# (n,) against (n, 1) broadcasts to (n, n) without a word; a test that does so is wrong.
jax.config.update("jax_numpy_rank_promotion", "raise")

# Traced programs are heaps of millions of objects that live on, and to look through them all takes seconds: that is
# done where memory runs short (see `bounded_memory`), and of themselves only younger objects are looked through.
gc.set_threshold(100_000, 50, 1_000_000)

# No deadline, because a first call compiles; the same examples every time, because a change is judged by them.
hypothesis.settings.register_profile("marline", deadline=None, derandomize=True)
hypothesis.settings.load_profile("marline")


def pytest_configure(config: pytest.Config) -> None:
    """Keep compiled programs in pytest's cache: compiling is most of what a test costs."""
    cache = getattr(config, "cache", None)  # absent under -p no:cacheprovider
    if cache is not None:
        folder, seconds = str(cache.mkdir("jax")), 0.1
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)
        # and for the programs that tests start
        os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(seconds)


@pytest.fixture(autouse=True, scope="module")
def bounded_memory() -> Iterator[None]:
    """Let go of compiled programs when they take gigabytes, for there is a process of tests on every core."""
    yield
    from marline.runtime import release_memory  # only here: what is imported now is not checked by jaxtyping

    pages = Path("/proc/self/statm")
    if pages.exists() and int(pages.read_text().split()[1]) * resource.getpagesize() > LARGE:
        jax.clear_caches()
        gc.collect()
        release_memory()


@pytest.fixture
def jit_for_users() -> Callable[..., Any]:
    """`jax.jit` with XLA's own settings, for what depends on how operations are fused and rounded."""
    settings = {
        "xla_backend_optimization_level": 3,
        "xla_llvm_disable_expensive_passes": False,
        "xla_cpu_use_fusion_emitters": True,
    }
    return functools.partial(jax.jit, compiler_options=settings)


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`run` is a campaign, trained and exported, `sent` its bundles, `logs` what they logged; `tuned` came after.

    Tests work on copies, so it is made once for all processes of tests.
    """
    common = tmp_path_factory.getbasetemp()
    common = common.parent if "PYTEST_XDIST_WORKER" in os.environ else common
    folder, done = common / "world", common / "world.done"
    with (common / "world.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            make_world(folder)
            done.touch()
    return folder


def make_world(folder: Path) -> None:
    from field import ROWS, SIZES, act, copy, create  # only here: most tests need none of it

    from marline.campaign.campaign import Campaign
    from marline.campaign.require_logs import Ingested
    from marline.campaign.status import status

    run = create(folder / "run")
    run.train()
    assert status(run.folder).stage == "ready"
    run.export(folder / "sent")
    act(folder / "sent", folder / "logs")
    tuned = Campaign.open(copy(run.folder, folder / "tuned"))
    assert tuned.ingest(folder / "logs") == Ingested(1, "ingested", dict.fromkeys(SIZES, ROWS), (), ())
    tuned.tune()

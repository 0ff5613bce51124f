"""The machine: JAX set up the same for commands and workers, how much memory there is, and memory handed back."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from pathlib import Path

from marline.errors import require


def set_up_jax() -> None:
    """Keep compiled programs in the user's cache folder; multiply matrices at full precision, on an accelerator too."""
    import jax  # only here: those who ask for memory need not wait for it

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    # through the environment too, for the workers
    settings = {
        "jax_default_matmul_precision": "highest",
        "jax_compilation_cache_dir": str(base / "marline" / "jax"),
        "jax_persistent_cache_min_compile_time_secs": "0.2",
    }
    for name, value in settings.items():
        value = os.environ.setdefault(name.upper(), value)
        jax.config.update(name, float(value) if name.endswith("_secs") else value)


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def choose_device(name: str | None) -> None:
    """Let JAX compute on the CPU or on a GPU, as `--device` says; on what it finds best unless that is given.

    Raises:
        ConfigError: there is no GPU that JAX could use.
    """
    if name is None:
        return
    if name == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"  # for workers, and for JAX if it is not imported yet
    elif os.environ.get("JAX_PLATFORMS") == "cpu":
        del os.environ["JAX_PLATFORMS"]
    if "jax" in sys.modules or name != "cpu":
        import jax

        jax.config.update("jax_platforms", "cpu" if name == "cpu" else os.environ.get("JAX_PLATFORMS"))
        if name != "cpu":
            found = jax.default_backend()
            require(found != "cpu", f"--device {name}: {no_accelerator()}; leave it out to compute on the CPU")


def no_accelerator() -> str:
    """Why JAX sees none, as far as one can tell, and what to do about it."""
    if any(Path("/dev").glob("nvidia[0-9]*")):
        return "there is an NVIDIA GPU, but this JAX cannot use it: pip install 'jax[cuda12]'"
    return "JAX sees no GPU on this machine"


def num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def release_memory() -> None:
    """Hand back what was freed: the C library keeps hundreds of MiB of compiling, and of arrays below 32 MiB each."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # glibc's alone
            ctypes.CDLL(None).malloc_trim(0)

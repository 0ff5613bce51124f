"""JAX, set up for a command: compiled programs are kept, and float32 means float32 on an accelerator too."""

from __future__ import annotations

import os
from pathlib import Path

import jax


def set_up_jax() -> None:
    """Keep compiled programs in the user's cache folder; multiply matrices at full precision."""
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

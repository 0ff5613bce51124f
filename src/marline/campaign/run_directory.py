"""What makes a folder a run directory; imports no JAX, for `marline status` answers at once."""

from __future__ import annotations

from pathlib import Path

from marline.errors import require


def require_run(folder: Path) -> Path:
    """The configuration file of a run directory.

    Raises:
        ConfigError: the folder is none.
    """
    path = folder / "run.json"
    require(
        path.is_file(),
        f"{folder} is not a run directory: it has no run.json; start one with: marline train, or marline run",
    )
    return path

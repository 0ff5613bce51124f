"""What makes a folder a run directory; imports no JAX, for `marline status` answers at once."""

from __future__ import annotations

import hashlib
from pathlib import Path

from marline.data.files import LARGEST_CONFIGURATION, read_regular
from marline.data.plain import require_plain_run
from marline.errors import require


def require_run(folder: Path) -> Path:
    """The configuration file of a run directory.

    Raises:
        ConfigError: the folder is none.
        CorruptionError: a link, a pipe or a device is in it.
    """
    if folder.is_dir():
        require_plain_run(folder)
    path = folder / "run.json"
    require(
        path.is_file(),
        f"{folder} is not a run directory: it has no run.json; start one with: marline train, or marline run",
    )
    return path


def configuration_sha256(path: Path) -> str:
    """SHA-256 of a configuration file, in hexadecimal; `CorruptionError` where there is none, or no plain one."""
    return hashlib.sha256(read_regular(path, LARGEST_CONFIGURATION)).hexdigest()

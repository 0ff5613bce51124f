"""What makes a folder a run directory, and how its checkpoints are named; imports no JAX, for `marline status` answers
at once."""

from __future__ import annotations

import re
from pathlib import Path

from marline.errors import require

_CHECKPOINT = re.compile(r"checkpoint-([0-9]{7,})")  # padded to seven digits; there may be more


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


def checkpoint_folder(history: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in the folder of a team."""
    return history / f"checkpoint-{step:07d}"


def checkpoint_steps(history: Path) -> list[int]:
    """Steps of the checkpoints in the folder of a team, ascending."""
    names = [path.name for path in history.iterdir()] if history.is_dir() else []
    found = {name: int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name))}
    return sorted(step for name, step in found.items() if name == checkpoint_folder(history, step).name)

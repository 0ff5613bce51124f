"""What makes a folder a run directory, and how its checkpoints are named; imports no JAX, for `marline status` answers
at once."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

from marline.data.files import LARGEST_CONFIGURATION, read_regular
from marline.data.plain import require_plain_run
from marline.errors import CorruptionError, require

_CHECKPOINT = re.compile(r"checkpoint-([0-9]{7,})")  # padded to seven digits; there may be more


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


def checkpoint_folder(history: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in the folder of a team."""
    return history / f"checkpoint-{step:07d}"


def checkpoint_steps(history: Path) -> list[int]:
    """Steps of the checkpoints in the folder of a team, ascending."""
    names = [path.name for path in history.iterdir()] if history.is_dir() else []
    found = {name: int(match[1]) for name in names if (match := _CHECKPOINT.fullmatch(name))}
    return sorted(step for name, step in found.items() if name == checkpoint_folder(history, step).name)


def configuration_sha256(path: Path) -> str:
    """SHA-256 of a configuration file, in hexadecimal; `CorruptionError` where there is none, or no plain one."""
    return hashlib.sha256(read_regular(path, LARGEST_CONFIGURATION)).hexdigest()


def known_places(path: Path) -> set[str]:
    """Where the teams that a configuration file names lie in its run directory, as "seed-0/offline".

    Raises:
        CorruptionError: there is none, or no plain one, or it names none.
    """
    try:
        document = json.loads(read_regular(path, LARGEST_CONFIGURATION))
        return {f"seed-{seed}/{name}" for seed in document["seeds"] for name in ("offline", *document["samplers"])}
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the configuration of a run; restore a copy") from error


def decisive_sha256(path: Path, sampler: str | None = None) -> str:
    """SHA-256 of what in a configuration file decides the numbers of one team, in hexadecimal.

    That is all but the seeds and the other samplers, which a run may gain later.

    Args:
        path: the file.
        sampler: of the team; None is the offline team.

    Raises:
        CorruptionError: there is none, or no plain one, or it is no JSON object.
    """
    try:
        document = json.loads(read_regular(path, LARGEST_CONFIGURATION))
        samplers = document.pop("samplers")
        document.pop("seeds")
        document["sampler"] = samplers.get(sampler)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CorruptionError(f"{path} is not the configuration of a run; restore a copy") from error
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

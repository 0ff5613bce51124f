"""`marline list, doctor`: what there is to choose from, and whether the installation works."""

from __future__ import annotations

import dataclasses
from typing import Literal

from tyro.conf import Positional


@dataclasses.dataclass(frozen=True)
class List:
    """Name the tasks, algorithms and samplers, with a line and a source for each."""

    what: Positional[Literal["all", "tasks", "algorithms", "samplers"]] = "all"
    """Only these; `tasks` tells more: agents, spaces, horizon, reward, source, and what we decided."""
    json: bool = False
    """Print as JSON."""


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Check the installation: versions, devices, caches, and a training step."""

    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    json: bool = False
    """Print as JSON."""

"""`marline list, doctor`: what there is to choose from, and whether the installation works."""

from __future__ import annotations

from typing import Literal

from tyro.conf import Positional

from marline.cli.options.shown import command_options


@command_options
class List:
    """Name the tasks, algorithms and samplers, with a line and a source for each."""

    what: Positional[Literal["all", "tasks", "algorithms", "samplers"]] = "all"
    """Only these; `tasks` tells more: agents, spaces, horizon, reward, source, and what we decided."""
    json: bool = False
    """Print as JSON."""


@command_options
class Doctor:
    """Check the installation: versions, devices, caches, and a training step."""

    device: Literal["cpu", "gpu"] | None = None
    """Where to compute; on a GPU if there is one that JAX can use, unless given. `marline doctor` tells."""
    json: bool = False
    """Print as JSON."""

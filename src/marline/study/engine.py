"""What computes the parts of a study, wherever that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from marline.configuration.run_config import RunConfig

Progress = Callable[[int, str, int], None]  # number of the share, what is going on, updates just done


@runtime_checkable
class Engine(Protocol):
    """Runs or finishes a study. Which engine does changes no result, so one may go on where another stopped."""

    def plan(self, seeds: Sequence[int]) -> list[list[int]]:
        """Divide the seeds into shares, each of which tells its progress by itself."""
        ...

    def run(self, folder: Path, config: RunConfig, shares: Sequence[Sequence[int]], progress: Progress) -> None:
        """Run or finish a study in its run directory, which this process alone writes or lets its own workers write.

        Raises:
            MarlineError: what went wrong with a part, after the others were stopped; the run can be resumed.
        """
        ...

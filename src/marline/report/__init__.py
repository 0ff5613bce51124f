"""Runs for people to look at: a page, a still figure, and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from marline.data.files import write_output
from marline.errors import ConfigError
from marline.inputs.arguments import checked_arguments
from marline.report.decomposition_figure import write_decomposition
from marline.report.frame import require_parquet, write_parquet
from marline.report.page import Moment, render
from marline.report.records import read_run
from marline.report.svg import require_drawable, write_figure
from marline.report.tables import (
    headlines,
    summary_table,
    write_agent_returns,
    write_csv,
    write_differences,
    write_summary,
)
from marline.report.tensorboard import require_tensorboard, write_tensorboard
from marline.report.tracking import tracked


@checked_arguments
def write_report(
    runs: Sequence[str | Path], output: str | Path, timelines: Mapping[Path, Sequence[Moment]] | None = None
) -> Path:
    """Write one self-contained HTML page about one or more run directories.

    The page needs no network, no server and no other file, and may be sent to anyone.

    Args:
        runs: run directories.
        output: the page.
        timelines: by run, what happened in a campaign in the real world.

    Returns:
        `output`.

    Raises:
        ConfigError: no run was given, or one is not a run.
        CorruptionError: a file of a run is damaged; the message names it.
    """
    if not runs:
        raise ConfigError("no run was given to report; give at least one run directory, such as runs/first")
    page = render([read_run(Path(run)) for run in runs], timelines or {})
    write_output(Path(output), page)
    return Path(output)


__all__ = [
    "headlines",
    "require_drawable",
    "require_parquet",
    "require_tensorboard",
    "summary_table",
    "tracked",
    "write_agent_returns",
    "write_csv",
    "write_decomposition",
    "write_differences",
    "write_figure",
    "write_parquet",
    "write_report",
    "write_summary",
    "write_tensorboard",
]

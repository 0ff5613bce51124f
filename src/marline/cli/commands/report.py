"""`marline report`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

from marline import report as reporting
from marline.campaign.timeline import timeline
from marline.cli.options.study import Report
from marline.data.files import require_writable
from marline.data.plain import require_plain_path
from marline.display.console import say, say_json
from marline.display.shell import quoted
from marline.errors import require
from marline.report.trackers import TRACKERS, require_trackers
from marline.report.tracking import tracked
from marline.runs.events import Event
from marline.runs.integrity import require_belonging, require_measured
from marline.runs.layout import RunDirectory, require_run
from marline.runs.ledger import Ledger


def report(options: Report) -> int:
    """`marline report`."""
    require(len(options.runs) > 0, "name at least one run directory: marline report runs/first")
    runs = list(options.runs)
    output = options.output or RunDirectory(runs[0]).report
    outputs = [
        path for path in (output, options.csv, options.summary, options.figure, options.pandas) if path is not None
    ]
    for path in outputs:
        require_writable(path)
    for run, path in itertools.product(runs, [*outputs, *filter(None, [options.tensorboard])]):
        require_plain_path(run, path)
    require(not options.sampler or options.figure is not None, "--sampler is of the figure; add --figure")
    if options.figure:
        reporting.require_drawable(runs, options.figure, options.sampler)
    if options.tensorboard:
        reporting.require_tensorboard()
    if options.pandas:
        reporting.require_parquet(options.pandas)
    require_trackers(options.log)
    timelines = {run: timeline(_events(run)) for run in runs}
    page = reporting.write_report(runs, output, timelines)
    if options.csv:
        reporting.write_csv(runs, options.csv)
        reporting.write_differences(runs, options.csv.with_name(f"{options.csv.stem}-differences.csv"))
        reporting.write_agent_returns(runs, options.csv.with_name(f"{options.csv.stem}-agents.csv"))
    if options.summary:
        reporting.write_summary(runs, options.summary)
    if options.figure:
        reporting.write_figure(runs, options.figure, samplers=options.sampler)
    if options.decomposition:
        reporting.write_decomposition(runs, options.decomposition)
    if options.tensorboard:
        reporting.write_tensorboard(runs, options.tensorboard)
    if options.pandas:
        reporting.write_parquet(runs, options.pandas)
    for run in runs:
        with tracked(run, options.log):
            pass  # all there is to log is there
    if options.json:
        say_json(reporting.summary_table(runs))
        return 0
    for line in reporting.headlines(runs):
        say(line)
    say(f"  report: {page}")
    say_where(options.log)
    say(f"  next:   open {quoted(page)} in a browser")
    return 0


def say_where(trackers: Sequence[str]) -> None:
    """Where to look at what was logged."""
    for name in trackers:
        say(f"  log:    {TRACKERS[name].look}")


def _events(run: Path) -> list[Event]:
    """What happened in a campaign, nothing in a study; `CorruptionError` if the parts do not belong together.

    That is what a report tells, so lines of measurements must be those of the checkpoints, too.
    """
    if not os.path.lexists(RunDirectory(run).configuration):
        return []  # what reads it next says so
    require_run(run)
    events = Ledger(run).events()
    require_belonging(run)
    require_measured(run)
    return events

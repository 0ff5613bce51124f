"""Runs as TensorBoard logs: a folder per sampler and seed, steps are deployments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from marline.data.files import write_atomically
from marline.data.manifest import require_file_name
from marline.data.plain import require_plain_path
from marline.errors import ConfigError, CorruptionError
from marline.report.records import Run, read_run
from marline.report.tables import DIAGNOSTICS
from marline.runs.layout import RunDirectory

FILE = "events.out.tfevents.marline"  # TensorBoard reads what has the first three parts in its name
FORMAT = "brain.Event:2"


def write_tensorboard(runs: Sequence[Path], folder: Path) -> Path:
    """Write RUN/SAMPLER/seed-N/ below `folder`: returns, and what was measured of each agent, by deployment.

    Written again, files are replaced, so that no curve is drawn twice.

    Raises:
        ConfigError: tensorboardX is not installed.
        CorruptionError: a run is damaged, a sampler has a name that leads elsewhere, or a link lies in the way.
    """
    Event, Summary, RecordWriter = require_tensorboard()
    for run in map(read_run, runs):
        for sampler, seed in run.lines:
            require_file_name(sampler, f"{RunDirectory(run.path).configuration}: sampler", CorruptionError)
            file = folder / run.path.name / sampler / f"seed-{seed}" / FILE
            require_plain_path(folder, file)
            events = [Event(file_version=FORMAT)]
            for step, values in _steps(run, sampler, seed):
                summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
                events.append(Event(step=step, summary=summary))

            def write(path: Path, events: Sequence[Any] = events) -> None:
                writer = RecordWriter(str(path))
                for event in events:
                    writer.write(event.SerializeToString())
                writer.close()

            write_atomically(file, write)
    return folder


def require_tensorboard() -> tuple[Any, Any, Any]:
    """Event, Summary and RecordWriter of tensorboardX; `ConfigError` where it is not installed."""
    try:
        # protobuf makes both classes when they are imported, where no type checker sees them
        from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
        from tensorboardX.record_writer import RecordWriter
    except ImportError as error:
        raise ConfigError(
            f"writing TensorBoard logs needs tensorboardX, and {error.name or 'it'} is not there: "
            "pip install 'marline[tensorboard]'"
        ) from None
    return Event, Summary, RecordWriter


def _steps(run: Run, sampler: str, seed: int) -> Iterator[tuple[int, dict[str, float]]]:
    """Deployment by deployment: every curve's value under its tag, `quantity/agent` but for the team's return."""
    returns = run.curve(sampler, seed)
    measured = {name: run.diagnostic(sampler, seed, name) for name in DIAGNOSTICS}
    for deployment in sorted(run.lines[sampler, seed]):
        values = {"return": returns[deployment]} if deployment in returns else {}
        for name, curve in measured.items():
            values |= {f"{name}/{agent}": value for agent, value in curve.get(deployment, {}).items()}
        yield deployment, values

"""What a person sees while a command works: progress with an ETA on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marline.errors import INTERRUPTED

_console = Console(highlight=False)


def say(line: str, *, quiet: bool = False) -> None:
    """Print a line; it may hold any name that comes from data."""
    if not quiet:
        _console.print(escape(line), soft_wrap=True)


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """On Ctrl-C or SIGTERM: say by which command it goes on, and leave with the status that belongs to it."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit) as stop:
        print(f"\nstopped; what was done is saved. Go on with: {command}", file=sys.stderr)
        raise SystemExit(stop.code if isinstance(stop, SystemExit) else INTERRUPTED) from None


class ProgressDisplay:
    """A bar per worker, counted in updates."""

    def __init__(self, bars: Sequence[tuple[str, int]], *, quiet: bool = False) -> None:
        self._progress = Progress(
            TextColumn("{task.fields[who]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=_console,
            disable=quiet or not _console.is_terminal,
        )
        self._bars = [self._progress.add_task("starting", total=total, who=escape(who)) for who, total in bars]

    def __enter__(self) -> ProgressDisplay:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def advance(self, worker: int, text: str, updates: int) -> None:
        """Show what a worker does, and move its bar on."""
        self._progress.update(self._bars[worker], description=escape(text), advance=updates)

"""What a person sees while a command works: progress with an ETA on a terminal, nothing elsewhere."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marline.errors import INTERRUPTED

_console = Console(highlight=False, emoji=False)  # or ":bug:" in a path would become a picture


def say(line: str, *, quiet: bool = False) -> None:
    """Print a line; it may hold any name that comes from data."""
    if not quiet:
        _console.print(escape(line), soft_wrap=True)


def say_json(value: Any) -> None:
    """Print plain values as JSON; NaN and infinities, which it has no words for, as null."""
    print(json.dumps(_finite(value), indent=2))


def can_show(text: str) -> bool:
    """Whether standard output has all these letters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def resumable(command: str) -> Iterator[None]:
    """On Ctrl-C or SIGTERM: say by which command it goes on, and exit with the status that belongs to it."""
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
            disable=quiet or not (_console.is_terminal or _console.is_jupyter),
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

"""What a person sees while a command works: progress with an ETA on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from marline.errors import INTERRUPTED

EVERY = 30.0  # seconds between two lines that tell how far something is
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
    """A bar per worker, counted in updates; without a terminal a line now and then.

    Args:
        bars: name and number of updates of each worker.
        quiet: whether to show nothing.
        every: seconds between two lines.
    """

    def __init__(self, bars: Sequence[tuple[str, int]], *, quiet: bool = False, every: float = EVERY) -> None:
        is_drawn = _console.is_terminal or _console.is_jupyter
        self._progress = Progress(
            TextColumn("{task.fields[who]}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=_console,
            disable=quiet or not is_drawn,
        )
        self._bars = [self._progress.add_task("starting", total=total, who=escape(who)) for who, total in bars]
        self._lines = None if quiet or is_drawn else _Lines(bars, every)

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
        if self._lines is not None:
            self._lines.advance(worker, text, updates)


class _Lines:
    """What workers do, for a file that somebody looks into now and then."""

    def __init__(self, bars: Sequence[tuple[str, int]], every: float) -> None:
        self._bars, self._every = bars, every
        self._done, self._texts = [0] * len(bars), ["starting"] * len(bars)
        self._began = self._told = time.monotonic()

    def advance(self, worker: int, text: str, updates: int) -> None:
        self._done[worker] += updates
        self._texts[worker] = text
        now = time.monotonic()
        if now - self._told < self._every:
            return
        self._told = now
        parts = [
            f"{who}: {text}, {100 * done // max(total, 1)} %"
            if len(self._bars) > 1
            else f"{text}: {done:,} of {total:,} updates ({100 * done // max(total, 1)} %)"
            for (who, total), text, done in zip(self._bars, self._texts, self._done, strict=True)
        ]
        done, total, passed = sum(self._done), sum(total for _, total in self._bars), now - self._began
        left = f", about {_duration(passed * (total - done) / done)} left" if 0 < done < total else ""
        say(f"{'; '.join(parts)}; {_duration(passed)} so far{left}")


def _duration(seconds: float) -> str:
    """Such as "40 s", "12 min" or "3 h 5 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

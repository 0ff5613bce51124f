"""The process that tells a tracker what a run measures, as soon as it is in the run directory.

`python -m marline.report.follow RUN TRACKER` reads what the run publishes, until its standard input is closed: then all
is logged that is there. It reads alone, so that nothing that happens here can harm the run.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

from marline.errors import MarlineError
from marline.report.records import Run, read_run
from marline.report.trackers import TRACKERS, Team, Tracker
from marline.runs.layout import METRICS, RunDirectory

PAUSE = 1.0  # seconds between two looks
REASON = "stopped: "  # what the line begins with that tells why it did
Seen = dict[tuple[str, int], int]  # of each sampler and seed, the last deployment that was logged


def main(arguments: list[str]) -> int:
    """Follow a run; the exit status. What went wrong is one line on standard error."""
    run, name = Path(arguments[0]), arguments[1]
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.buffer.read(), ended.set()), daemon=True).start()
    try:
        follow(run, TRACKERS[name].make(), ended)
    except Exception as error:  # of a package that may raise anything
        print(f"{REASON}{type(error).__name__}: {' '.join(str(error).split())[:300]}", file=sys.stderr)
        return 1
    return 0


def follow(folder: Path, tracker: Tracker, ended: threading.Event) -> None:
    """Log what a run measures until it has ended; a run directory that is still to come is waited for."""
    seen: Seen = {}
    before: object = None
    while True:
        is_last = ended.is_set()
        if is_last or _state(folder) != before:
            before = _state(folder)
            with contextlib.suppress(MarlineError) if not is_last else contextlib.nullcontext():
                if RunDirectory(folder).configuration.is_file():
                    log_new(read_run(folder), tracker, seen)
        if is_last:
            break
        ended.wait(PAUSE)
    tracker.close()


def log_new(run: Run, tracker: Tracker, seen: Seen) -> None:
    """Log the deployments that came since."""
    for sampler, seed in run.lines:
        team = Team(run, sampler, seed)
        for deployment, values in team.measurements():
            if deployment > seen.get((sampler, seed), -1) and values:
                tracker.log(team, deployment, values)
                seen[sampler, seed] = deployment


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Changes when measurements do."""
    found = []
    for team in RunDirectory(folder).teams():
        with contextlib.suppress(OSError):
            its = (team / METRICS).stat()
            found.append((str(team), its.st_mtime_ns, its.st_size))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

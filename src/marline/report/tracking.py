"""Measurements of a run go to trackers while it runs, and a tracker that fails costs the run nothing."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from marline.display.shell import command
from marline.report.follow import REASON
from marline.report.trackers import require_trackers

PATIENCE = 60.0  # seconds that a tracker has to end in, once the run has


@contextlib.contextmanager
def tracked(run: str | Path, trackers: Sequence[str]) -> Iterator[None]:
    """Log to trackers, while in here, what appears in a run directory: "tensorboard", "wandb", "mlflow".

    Each has a process of its own. What fails there is told once on standard error, and nothing else comes of it.

    Raises:
        ConfigError: there is no such tracker, or what it needs is not installed.
    """
    require_trackers(trackers)
    followers = [_Follower(Path(run), name) for name in dict.fromkeys(trackers)]
    try:
        yield
    except BaseException:  # somebody waits for this process to be gone: followers end by themselves
        for follower in followers:
            follower.release()
        raise
    for follower in followers:
        follower.release()
    for follower in followers:
        follower.join()


class _Follower:
    """The process behind one tracker, and a thread that waits for what it says."""

    def __init__(self, run: Path, name: str) -> None:
        self._name, self._run = name, run
        self._said = tempfile.TemporaryFile()  # no pipe, which a process that it leaves behind would keep open
        self._process = subprocess.Popen(
            # -P, or a script called wandb.py where the command was called would be taken for the package
            [sys.executable, "-P", "-m", "marline.report.follow", str(run), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,  # Ctrl-C is for the run
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def release(self) -> None:
        """Let it log what is there, and end."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def join(self) -> None:
        """Wait until it has ended, but not for long."""
        self._listener.join(PATIENCE)
        if self._listener.is_alive():
            self._process.kill()
            self._listener.join()

    def _listen(self) -> None:
        status = self._process.wait()
        with self._said as file:
            file.seek(0)
            lines = file.read().decode("utf-8", "replace").splitlines()
        if status:
            told = [line.removeprefix(REASON) for line in lines if line.startswith(REASON)]
            reason = f"took longer than {PATIENCE:.0f} s" if status < 0 else told[-1] if told else f"status {status}"
            print(
                f"note: {self._name} stopped ({reason}); the run is not affected, and is logged again by: "
                + command("report", self._run, "--log", self._name),
                file=sys.stderr,
            )

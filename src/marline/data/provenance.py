"""Where numbers come from: a line per start of a run, with command, commit, versions, device and date."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from marline.data.files import append_line, read_lines
from marline.errors import CorruptionError, MarlineError

FILE = "provenance.jsonl"
PACKAGES = ("jax", "jaxlib", "numpy")  # beside marline and Python, what a bit of a result may depend on
FIELDS = ("date", "command", "marline", "commit", "python", *PACKAGES, "device", "cores")
CONFIGURATION = "run.json"
Start = dict[str, str]


def record_start(folder: Path, configuration: str) -> None:
    """Remember in a run directory that this process works on it from now on, and by which configuration.

    Args:
        folder: the run directory.
        configuration: SHA-256 of its run.json, or of what that is to be in a moment.
    """
    append_line(folder / FILE, {**start(), CONFIGURATION: configuration})


def start() -> Start:
    """What `FIELDS` names, of this process and this moment."""
    import jax  # not needed to read

    device = jax.devices()[0]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "marline": importlib.metadata.version("marline"),
        "commit": commit(),
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
        "device": f"{device.device_kind} x {len(jax.devices())}",
        "cores": str(os.cpu_count()),
    }


def commit(source: Path = Path(__file__)) -> str:
    """The commit of marline's own source, with "and changes" where files differ from it; "" in an installed wheel."""
    root = source.resolve().parents[3]
    if not (root / ".git").exists():
        return ""
    git = ("git", "-C", str(root))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", "src"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):  # no git, or a folder that is somebody else's
        return ""
    return head.stdout.strip() + (" and changes" if changed.stdout.strip() else "")


def read_starts(folder: Path) -> list[Start]:
    """The starts of a run, first to last; none where it tells of none, as runs of marline 0.1.0.

    Raises:
        CorruptionError: a line is of another form.
    """
    path = folder / FILE
    starts = [tuple(line.get(name, "") for name in FIELDS) for line in _lines(path)]
    # one that let the run grow is told by two lines
    return [dict(zip(FIELDS, start, strict=True)) for start in dict.fromkeys(starts)]


def last_writer(folder: Path) -> str:
    """The version of marline that worked on a run last, as far as its starts tell; otherwise nothing."""
    try:
        return next((start["marline"] for start in reversed(read_starts(folder)) if start["marline"]), "")
    except MarlineError:  # who needs the starts will say what is wrong with them
        return ""


def recorded_configurations(folder: Path) -> set[str]:
    """SHA-256 of every run.json that the run had, as far as its starts tell; errors as of `read_starts`."""
    return {line[CONFIGURATION] for line in _lines(folder / FILE) if CONFIGURATION in line}


def _lines(path: Path) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for line in read_lines(path):
        if not isinstance(line, dict) or not all(isinstance(value, str) for value in line.values()):
            raise CorruptionError(f"{path} holds a line that tells of no start; restore a copy, or remove the file")
        found.append(line)
    return found


def merged(starts: Sequence[Start]) -> Start:
    """One entry for all starts: what they have in common, or all that they say, joined by "; "."""
    return {name: "; ".join(dict.fromkeys(start[name] for start in starts if start[name])) for name in FIELDS}


def sentence(start: Start) -> str:
    """A start in a line for people."""
    versions = ", ".join(f"{name} {start[name]}" for name in ("marline", *PACKAGES) if start[name])
    commit = f", commit {start['commit']}" if start["commit"] else ""
    return f"{start['command']} on {start['date']}: {versions}{commit}, Python {start['python']}, {start['device']}."


def to_text(starts: Sequence[Start]) -> str:
    """The same in JSON, for the metadata of a figure."""
    return json.dumps(list(starts), ensure_ascii=False)

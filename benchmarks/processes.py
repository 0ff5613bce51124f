"""Processes of a command under measurement. Linux."""

from __future__ import annotations

from pathlib import Path


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    try:
        children = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except OSError:
        return [pid]
    return [pid, *(member for child in children for member in family(int(child)))]

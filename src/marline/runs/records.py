"""What a line of measurements must look like, wherever it was read; imports no JAX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from marline.errors import CorruptionError

STOP = {"update": int, "reason": str, "kept": int, "batch": str}


def require_records(path: Path, found: object) -> list[dict[str, Any]]:
    """`found` if it is measurements, one per deployment; `CorruptionError` naming the file otherwise."""
    if not isinstance(found, list) or not all(map(_is_record, found)):
        raise CorruptionError(f"{path} holds a line that is no measurement; restore a copy")
    return found


def require_stopped(path: Path, found: object) -> dict[str, Any]:
    """`found` if it tells who diverged, and how; `CorruptionError` naming the file otherwise."""
    if not _are_stops(found):
        raise CorruptionError(f"{path} does not tell properly who diverged; restore a copy")
    assert isinstance(found, dict)
    return found


def _is_record(line: object) -> bool:
    if not isinstance(line, dict) or type(line.get("deployment")) is not int:
        return False
    agents = line.get("agents", {})
    return (
        isinstance(agents, dict)
        and all(isinstance(its, dict) for its in agents.values())
        and type(line.get("return", 0.0)) in (int, float)
        and all(
            isinstance(line.get(key, []), list) and all(isinstance(one, str) for one in line.get(key, []))
            for key in ("frozen", "waived")
        )
        and _are_stops(line.get("diverged", {}))
    )


def _are_stops(found: object) -> bool:
    return isinstance(found, dict) and all(
        isinstance(its, dict) and all(type(its.get(key)) is kind for key, kind in STOP.items())
        for its in found.values()
    )

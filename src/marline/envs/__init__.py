"""The task catalogue."""

from __future__ import annotations

from marline.envs.cooperative_navigation import CooperativeNavigation
from marline.envs.task import Task
from marline.errors import require_name

TASKS: dict[str, Task] = {
    f"cooperative-navigation-{n}{'-discrete' if discrete else ''}": CooperativeNavigation(n, discrete=discrete)
    for discrete in (False, True)
    for n in (2, 3, 4, 6, 8)
}


def make_task(name: str) -> Task:
    """The task of that name; `ConfigError` with the nearest name otherwise."""
    require_name(name, TASKS, "task")
    return TASKS[name]


__all__ = ["TASKS", "CooperativeNavigation", "Task", "make_task"]

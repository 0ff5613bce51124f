"""`marline demo`: a partner who does otherwise than in the logs, and one who does not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from marline.cli.commands.make import KINDS
from marline.cli.commands.study import finish
from marline.cli.options.data import Make
from marline.cli.options.study import Demo
from marline.display.console import say
from marline.envs import make_task
from marline.runtime import set_up_jax
from marline.study.engines import make_engine
from marline.study.study import Study


class Case(NamedTuple):
    """A study of the demonstration.

    Attributes:
        task: as `marline list tasks` has it.
        logs: which logs `marline data make` makes.
        about: whether they still tell the truth.
    """

    task: str
    logs: str
    about: str


# The first is a task of experiments/correction.py in small; ten seeds of it are there. The second is the same game
# after the past team had come to what is best, so that nothing is left to change.
CASES: Mapping[str, Case] = {
    "changed": Case("matrix", "conventions", "agent_1 will do what it rarely did in the logs: they are outdated"),
    "unchanged": Case(
        "matrix(rare=1,bold=1)", "in-turns", "all will do what they did in the logs: they tell the truth"
    ),
}
SIZES: Mapping[str, Any] = {"rows": 10_000, "hidden": (64, 64), "seeds": 2, "offline_updates": 2500, "updates": 1000}
QUICK: Mapping[str, Any] = {
    "rows": 2000,
    "hidden": (8, 8),
    "seeds": 1,
    "offline_updates": 20,
    "updates": 10,
    "samplers": ("otc-value", "uniform"),  # the default ones take longer to compile than all of this
}


def demo(options: Demo) -> int:
    """`marline demo`."""
    set_up_jax()
    folder = options.run or Path("runs/demo-quick" if options.quick else "runs/demo")
    sizes = dict(QUICK if options.quick else SIZES)
    rows = sizes.pop("rows")
    studies = []
    for name, case in CASES.items():
        say(f"{name}: {case.about}")
        logs = KINDS[case.logs](make_task(case.task), Make(case.task, folder, size=rows)).logs
        studies.append(
            Study.create(
                folder / name,
                task=case.task,
                algorithm="cql(alpha_cql=0.01)",
                logs=logs,
                sequential_exploration=0.1,
                deployments=1,
                **sizes,
            )
        )
    return finish(studies, make_engine("local"), json=False, page=folder / "report.html")

"""Make a shelf of small logs and teams of particle worlds and of a robot, from which `marline data get` takes them.

    python experiments/shelf.py shelf                        # minutes on one core; prints the shelf's seal
    marline data get --mirror shelf                          # what is on it
    marline play halfcheetah-2x3-team --mirror shelf         # a team of it

Logs of random play, of past teams that agreed on something else each, or of teams of which each agent was now good, now
bad; and per task a study of one seed, with the team that was trained on the last of these and tuned by uniform replay.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from marline import Study
from marline.cli.commands.make import make
from marline.cli.options.data import Make
from marline.data.shelf import make_shelf
from marline.runtime import set_up_jax

# The logs of each task; what its team learned from is the last.
TASKS = {
    "cooperative-navigation-3": ("random", "conventions"),
    "drifting-navigation": ("random",),
    "predator-prey": ("random", "conventions"),
    "halfcheetah-2x3": ("mixed",),  # needs the extra mujoco
}
KINDS = {
    "random": "random play",
    "conventions": "past teams that agreed on something else each",
    "mixed": "teams of which each agent was now good, now bad",
}
SIZES: Mapping[str, Any] = {"deployments": 3, "offline_updates": 10_000, "updates": 1000}


def main(
    folder: Path,
    tasks: Mapping[str, Sequence[str]] = TASKS,
    rows: int = 50_000,
    hidden: tuple[int, ...] = (64, 64),
    **sizes: Any,
) -> str:
    """Make the shelf; its seal."""
    set_up_jax()
    things: dict[str, tuple[str, Path]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for task, kinds in tasks.items():
            logs = Path(scratch)
            for kind in kinds:
                logs = Path(scratch) / f"{task}-{kind}"
                make(Make(name=f"{task}/{kind}", out=logs, size=rows))
                things[logs.name] = (f"logs: {rows:,} rows per agent of {KINDS[kind]}", logs)
            team = Path(scratch) / f"{task}-team"
            study = Study.create(
                team, task=task, samplers=["uniform"], seeds=1, logs=logs, hidden=hidden, **{**SIZES, **sizes}
            )
            study.run(progress=False)
            things[team.name] = ("a team: trained on these logs and tuned, with its run directory", team)
        return make_shelf(folder, things)


if __name__ == "__main__":
    print("seal:", main(Path(sys.argv[1])))

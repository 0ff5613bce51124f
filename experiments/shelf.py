"""Make a shelf of small logs and teams of particle worlds, from which `marline data get` takes them.

    python experiments/shelf.py shelf          # minutes on one core; prints the shelf's seal
    marline data get --mirror shelf            # what is on it

Logs of random play, and of past teams that agreed on something else each; and per world a study of one seed, with the
team that was trained on the latter and tuned by uniform replay.
"""

import sys
import tempfile
from pathlib import Path

from marline import Study
from marline.cli.commands.make import make
from marline.cli.options.data import Make
from marline.data.shelf import make_shelf
from marline.runtime import set_up_jax

TASKS = ("cooperative-navigation-3", "predator-prey")
KINDS = {"random": "random play", "conventions": "past teams that agreed on something else each"}
SIZES = {"deployments": 3, "offline_updates": 10_000, "updates": 1000}


def main(folder: Path, tasks=TASKS, rows: int = 50_000, hidden=(64, 64), **sizes) -> str:
    """Make the shelf; its seal."""
    set_up_jax()
    things: dict[str, tuple[str, Path]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for task in tasks:
            for kind, meaning in KINDS.items():
                logs = Path(scratch) / f"{task}-{kind}"
                make(Make(name=f"{task}/{kind}", out=logs, size=rows))
                things[logs.name] = (f"logs: {rows:,} rows per agent of {meaning}", logs)
            team = Path(scratch) / f"{task}-team"
            Study.create(
                team,
                task=task,
                samplers=["uniform"],
                seeds=1,
                logs=Path(scratch) / f"{task}-conventions",
                hidden=hidden,
                **{**SIZES, **sizes},
            ).run(progress=False)
            things[team.name] = ("a team: trained on past teams' logs and tuned, with its run directory", team)
        return make_shelf(folder, things)


if __name__ == "__main__":
    print("seal:", main(Path(sys.argv[1])))

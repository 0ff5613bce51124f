"""A reader who was not there learns what the task is, what the return is, and what to do next."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from marline.report.comparison import outcomes
from marline.report.introduction import about, next_step, titles
from marline.report.records import read_run

WriteRun = Callable[..., Path]


def rewrite(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | changes), "utf-8")


def entry(name: str, *, size: int = 2, **channels: Any) -> dict[str, Any]:
    spec = {"observation_size": 12, "action_size": size, "discrete": False}
    return {"name": name, "spec": spec, "channels": channels}


def test_a_task_of_ours_is_told_in_its_own_words(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", task="cooperative-navigation-3", seeds=(0,), deployments=2)
    rewrite(path / "data" / "dataset.json", agents=[entry("a"), entry("b"), entry("c")])
    assert about(read_run(path)) == (
        "The task: 3 agents cover 3 landmarks in the plane (Lowe et al. 2017; OTC Figs. 6-8). "
        "The reward of a step: minus the sum over landmarks of the distance to the nearest agent. "
        "Each agent sees 12 numbers, and acts by 2 numbers. "
        "The return is the sum of the rewards of an episode of at most 50 steps; more is better. "
        "Compared is which logged rows a team learns from, while it is deployed 2 times and tuned after each."
    )
    varied = read_run(write_run(tmp_path / "varied", task="cooperative-navigation-3(horizon=9)", seeds=(0,)))
    assert "episode of at most 9 steps" in about(varied)


def test_of_other_tasks_nothing_is_imported(write_run: WriteRun, tmp_path: Path) -> None:
    for task in ("never_imported:task", "never=imported(", "gone"):
        told = about(read_run(write_run(tmp_path / task, task=task, seeds=(0,), deployments=1)))
        assert told.startswith(
            f"The task of 2 agents is the user's own: {task}. The return is the sum of the rewards of an"
        )


def test_a_campaign_is_told_by_the_names_of_its_channels(write_run: WriteRun, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", seeds=(0,), deployments=1, samplers={"otc-value": {"type": "OTC"}})
    rewrite(path / "run.json", task=None)
    names: dict[str, Any] = {"observation_names": ["x", "y"], "action_names": ["speed"]}
    agents = [entry("left", **names), entry("right", **names), entry("top", size=3)]
    rewrite(path / "data" / "dataset.json", agents=agents)
    run = read_run(path)
    assert about(run) == (
        "The task is in the field: a team of 3 agents, trained on its own logs, is deployed outside. "
        "Each agent sees x and y, and acts by speed (left and right); 12 numbers, and acts by 3 numbers (top). "
        "The return is the sum of the rewards of an episode; more is better."
    )
    step = next_step(run, outcomes(run))
    assert step is not None and step.command == f"marline status {path}"


def test_the_next_command_is_named(write_run: WriteRun, tmp_path: Path) -> None:
    def command(name: str, **options: Any) -> str:
        run = read_run(write_run(tmp_path / name, deployments=2, **options))
        step = next_step(run, outcomes(run))
        assert step is not None
        return step.command.replace(str(tmp_path), "")

    assert command("few", seeds=(0, 1)) == "marline resume /few --seeds 10"
    assert command("cut", seeds=(0, 1), reached=lambda name, seed: 1) == "marline resume /cut"
    theirs = {"uniform": {"type": "Uniform", "rows": "merged"}, "mine": {"type": "module:Mine"}}
    assert command("theirs", seeds=(0, 1), samplers=theirs) == "marline resume /theirs --seeds 10 --trust"
    assert command("done", seeds=range(10)) == "marline play /done --sampler otc-value --seed 0"
    run = read_run(tmp_path / "done")
    (tmp_path / "done" / "run.json").unlink()
    assert next_step(run, outcomes(run)) is None


def test_runs_of_one_task_are_told_apart_by_their_folders(write_run: WriteRun, tmp_path: Path) -> None:
    tasks = {"before": "matrix", "after": "matrix(rare=1)", "other": "swap"}
    runs = [read_run(write_run(tmp_path / name, task=task, seeds=(0,))) for name, task in tasks.items()]
    assert titles(runs) == ["before: matrix", "after: matrix(rare=1)", "swap"]
    assert titles(runs[:1]) == ["matrix"]

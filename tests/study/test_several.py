"""Several studies in one go: each is what it is alone, also when two are computed at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.errors import MarlineError
from marline.population import stacked
from marline.samplers import FreshShare, Uniform
from marline.study import several
from marline.study.engine import Engine
from marline.study.local_engine import LocalEngine
from marline.study.study import Study

TASKS = ("drifting-navigation", "cooperative-navigation-2")


def begun(folder: Path) -> list[Study]:
    return [
        Study.start(
            folder / task,
            RunConfig(
                task=task,
                algorithm=TD3BC(hidden=(4,)),
                samplers={"uniform": Uniform(batch_size=8), "fresh": FreshShare(batch_size=8)},
                seeds=(0, 1),
                dataset_size=200,
                rows_per_deployment=60,
                offline_updates=4,
                deployments=1,
                updates=2,
                evaluation_episodes=3,
            ),
        )
        for task in TASKS
    ]


def measured(study: Study) -> list[Any]:
    lines = [
        json.loads(line)
        for path in sorted(study.folder.glob("seed-*/*/metrics.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


@pytest.mark.slow
def test_two_at_once_are_what_each_is_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with stacked(True):
        together, alone = begun(tmp_path / "together"), begun(tmp_path / "alone")
        several.run_all(together, LocalEngine(), progress=False)
        for study in alone:
            several.run_all([study], LocalEngine(), progress=False)
    for one, other in zip(together, alone, strict=True):
        assert measured(one) and measured(one) == measured(other)


def test_one_that_fails_stops_the_others_which_keep_what_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []

    class Failing(LocalEngine):
        def run(self, folder: Path, config: RunConfig, shares: Any, progress: Any) -> None:
            if config.task == TASKS[0]:
                raise MarlineError("the disk is gone")
            try:
                while True:
                    progress(0, "offline training", 1)
            except SystemExit:
                ended.append(folder.name)
                raise

    monkeypatch.setattr(several, "LocalEngine", Failing)
    studies = begun(tmp_path)
    engine: Engine = Failing()
    with stacked(True), pytest.raises(MarlineError, match="the disk is gone"):
        several.run_all(studies, engine, progress=False)
    assert ended == [TASKS[1]]

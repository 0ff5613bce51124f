"""A study grows, has references, and judges all of its teams by the same episodes."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from marline.algorithms import CQL, TD3BC
from marline.cli import main
from marline.configuration.planning import plan_campaign, plan_study
from marline.configuration.run_config import RunConfig
from marline.configuration.selection import select_samplers
from marline.envs import make_task
from marline.errors import ConfigError, CorruptionError
from marline.rollouts.collection import collect_random
from marline.runs.creation import plan_run, start_run
from marline.runs.driver import place_data
from marline.runs.integrity import require_measured
from marline.runs.offline_logs import prepare_data
from marline.runs.verify import verify
from marline.runs.world_keys import evaluation_key
from marline.study import execution as study
from marline.study.engines import make_engine
from marline.study.study import Study

HIDDEN = (4,)
SMALL = {"num_candidates": 16, "num_references": 8, "num_estimate": 8}


def config(*samplers: str, task: str = "drifting-navigation", **changes: Any) -> RunConfig:
    selected = select_samplers(samplers, options=SMALL if any("otc" in name for name in samplers) else {})
    settings: dict[str, Any] = {
        "task": task,
        "algorithm": TD3BC(hidden=HIDDEN),
        "samplers": selected.samplers,
        "matches": selected.matches,
        "seeds": (0,),
        "dataset_size": 200,
        "rows_per_deployment": 20,
        "offline_updates": 4,
        "deployments": 2,
        "updates": 4,
        "evaluation_episodes": 100,
    }
    return RunConfig(**settings | changes)


def finish(folder: Path, wanted: RunConfig) -> RunConfig:
    """Start or extend a run, and do what is left of it in this process."""
    whole = start_run(folder, wanted)
    make_engine("local").run(folder, whole, [list(whole.seeds)], lambda *_: None)
    return whole


def records(folder: Path, seed: int, name: str) -> list[dict[str, Any]]:
    lines = (folder / f"seed-{seed}" / name / "metrics.jsonl").read_text("utf-8").splitlines()
    return [{key: value for key, value in json.loads(line).items() if key != "seconds"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds, with all that prefers rows and its controls, in one go."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    finish(folder, config("uniform", "frozen", "otc-two-stage", "shuffled", "online-matched", seeds=(0, 1)))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of samplers that compile quickly."""
    folder = tmp_path_factory.mktemp("plain") / "run"
    finish(folder, config("uniform", "frozen", seeds=(0, 1)))
    return folder


@pytest.mark.slow
def test_a_run_that_grew_is_the_run_that_was_planned_whole(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    finish(folder, config("uniform"))
    finish(folder, config("otc-two-stage", seeds=(0, 1)))
    grown = finish(folder, config("otc-two-stage", "frozen", "shuffled", "online-matched", seeds=(1,)))
    assert RunConfig.read(folder / "run.json") == grown
    assert set(grown.samplers) == set(RunConfig.read(whole / "run.json").samplers) and grown.seeds == (0, 1)
    for seed in (0, 1):
        for name in ("offline", *grown.samplers):
            assert records(folder, seed, name) == records(whole, seed, name), (seed, name)


@pytest.mark.slow
def test_seeds_that_a_run_gains_undo_nothing_that_others_have(tmp_path: Path) -> None:
    # side by side in one process, as on an accelerator
    folder = tmp_path / "run"
    finish(folder, config("uniform"))
    before = {path: path.stat().st_ino for path in folder.glob("seed-0/**/*")}
    grown = start_run(folder, config("uniform", seeds=(0, 1, 2)))
    experiences = place_data(grown, prepare_data(folder, grown))
    list(study.run_seeds(folder, grown, experiences, grown.seeds))
    assert {path: path.stat().st_ino for path in folder.glob("seed-0/**/*")} == before
    assert [len(records(folder, seed, "uniform")) for seed in grown.seeds] == [3, 3, 3]
    assert verify(folder).problems == ()


@pytest.mark.slow
def test_an_oracle_and_its_control_are_told_what_partners_do(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    wanted = config("oracle", "shuffled", task="swap", algorithm=CQL(hidden=HIDDEN), deployments=1)
    finish(folder, wanted)
    worth = [
        {agent: its["effective_sample_size"] for agent, its in records(folder, 0, name)[1]["agents"].items()}
        for name in ("oracle", "shuffled-oracle")
    ]
    assert worth[0] == worth[1], "both tune the same team"
    assert all(10 <= rows < 150 for rows in worth[0].values()), worth  # of 200; not all alike
    again = study.replay(folder, wanted, prepare_data(folder, wanted), 0, "shuffled-oracle")
    assert again == {"agent_0": True, "agent_1": True}


def test_an_oracle_without_partners_is_refused() -> None:
    with pytest.raises(ConfigError, match="oracle knows what partners did and would do today, and agent_0 has none"):
        plan_study(task="drifting-navigation", samplers=["oracle"], dataset_size=200, offline_updates=1)
    logs = collect_random(make_task("swap"), 40, seed=0)
    log = logs["agent_1"]
    longer = dataclasses.replace(log, timeouts=np.arange(40) % 10 == 9)
    with pytest.raises(ConfigError, match="'agent_0' and 'agent_1' do not end the same episodes at row 9"):
        plan_study(task="swap", samplers=["uniform", "oracle"], algorithm="cql", logs={**logs, "agent_1": longer})
    with pytest.raises(ConfigError, match="oracle is told what all agents logged and would do"):
        plan_campaign(sampler="oracle", algorithm="cql", logs=logs)


def test_a_run_of_an_earlier_marline_may_grow_after_it_went_on(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    earlier = config("uniform", evaluation_seed=None)
    document = {key: its for key, its in earlier.to_json().items() if key != "evaluation_seed"} | {"schema": 1}
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps(document), "utf-8")
    finish(folder, earlier)
    grown = start_run(folder, config("uniform", "frozen", seeds=(0, 1)))
    assert (
        grown
        == RunConfig.read(folder / "run.json")
        == dataclasses.replace(earlier, samplers=grown.samplers, seeds=(0, 1))
    )
    assert verify(folder).problems == (), "the checkpoints were made with what run.json said of them before"


@pytest.mark.slow
def test_verify_tells_what_a_study_lacks(whole: Path, tmp_path: Path) -> None:
    assert verify(whole).notes == ()
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    shutil.rmtree(folder / "seed-1" / "frozen")
    assert verify(folder).notes == ("of 10 parts, 1 did not reach the last deployment (frozen of seed 1)",)


def test_a_study_without_its_configuration_is_told_of_nothing_else(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    (folder / "run.json").write_text("{", "utf-8")
    assert not [problem for problem in verify(folder).problems if "ledger" in problem]


def test_an_older_configuration_hides_no_team(plain: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    document = json.loads((folder / "run.json").read_text("utf-8"))
    document["seeds"].remove(1)
    del document["samplers"]["frozen"]
    (folder / "run.json").write_text(json.dumps(document), "utf-8")
    hidden = [folder / "seed-0" / "frozen", *sorted(folder.glob("seed-1/*"))]
    sentence = "{} is of a seed or sampler that {} does not name"
    problems = verify(folder).problems
    assert len(problems) == len(hidden) == 4
    for home, problem in zip(hidden, problems, strict=True):
        assert problem.startswith(sentence.format(home, folder / "run.json"))
    with pytest.raises(CorruptionError, match="of a seed or sampler that"):
        plan_run(folder, config("uniform"))


def test_measurements_of_another_team_are_not_told(plain: Path, tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "run"
    shutil.copytree(plain, folder)
    require_measured(folder)
    metrics = folder / "seed-0" / "uniform" / "metrics.jsonl"
    lines = metrics.read_text("utf-8").splitlines(keepends=True)
    metrics.write_text("".join(lines[:2]), "utf-8")  # the last was lost to a kill
    require_measured(folder)
    shutil.copy(folder / "seed-1" / "uniform" / "metrics.jsonl", metrics)
    for tell in (lambda: Study.open(folder).returns, lambda: Study.open(folder).report(tmp_path / "a.html")):
        with pytest.raises(CorruptionError, match="metrics.jsonl says of deployment 0 what the last checkpoint"):
            tell()
    with pytest.raises(SystemExit) as stop:
        main(["report", str(folder), "-o", str(tmp_path / "a.html")])
    assert stop.value.code == 3 and "of another team" in capsys.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_a_frozen_team_is_the_offline_team_in_the_world_of_each_deployment(plain: Path) -> None:
    lines = records(plain, 0, "frozen")
    assert [line["deployment"] for line in lines] == [0, 1, 2]
    assert lines[0] == records(plain, 0, "offline")[0]
    assert all(line["agents"] == {} for line in lines[1:])
    last = {line["return_in_last_world"] for line in lines}
    assert last == {lines[-1]["return"]} != {0.0}, "in one fixed world, a team that stays itself returns the same"
    assert not list((plain / "seed-0" / "frozen").glob("deployment-*/logs")), "nobody learns from them"


def test_all_teams_are_judged_in_the_last_world_too(plain: Path) -> None:
    lines = records(plain, 1, "uniform")
    assert all("return_in_last_world" in line for line in lines)
    assert lines[-1]["return_in_last_world"] == lines[-1]["return"]


def test_seeds_are_judged_by_the_same_episodes() -> None:
    now, before = config("uniform"), config("uniform", evaluation_seed=None)

    def key(configuration: RunConfig, seed: int) -> list[int]:
        return jax.random.key_data(evaluation_key(configuration, seed)).tolist()

    assert key(now, 0) == key(now, 1)
    assert key(before, 0) != key(before, 1), "runs of marline 0.1.0 go on as they began"


@pytest.mark.slow
def test_a_control_draws_as_much_of_each_source_as_what_it_controls(whole: Path) -> None:
    for number in (1, 2):
        preferred, shuffled, matched = (
            records(whole, 0, name)[number]["agents"]["agent_0"]
            for name in ("otc-two-stage", "shuffled-otc-two-stage", "online-matched-otc-two-stage")
        )
        if number == 1:  # with the same critic and alpha, to the row
            assert shuffled["alpha"] == preferred["alpha"]
        assert abs(preferred["share_offline"] - shuffled["share_offline"]) < 0.35
        assert abs(preferred["share_offline"] - matched["share_offline"]) < 0.35


def test_another_run_is_not_taken_for_more_of_this_one(plain: Path) -> None:
    before = (plain / "run.json").read_bytes()
    with pytest.raises(ConfigError, match="already holds another run .updates: 4 there, 5 here"):
        start_run(plain, config("uniform", updates=5))
    assert (plain / "run.json").read_bytes() == before


def test_going_on_tells_samplers_apart_that_only_share_a_name(plain: Path) -> None:
    other = dataclasses.replace(config("uniform"), samplers=select_samplers(("uniform=online-only",)).samplers)
    with pytest.raises(ConfigError, match="sampler uniform rows: merged there, online here"):
        start_run(plain, other)

"""One constructor of a configuration: whatever the command line makes, Python makes too, to the last option."""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np
import pytest
import tyro

from marline.algorithms import ALGORITHMS, BCQ, TD3BC
from marline.cli.commands.campaign import configure as configure_campaign
from marline.cli.commands.study import configure
from marline.cli.options.campaign import Train
from marline.cli.options.study import Run
from marline.configuration import planning
from marline.configuration.planning import plan_campaign, plan_study
from marline.configuration.selection import CONTROLS
from marline.data.dataset import Dataset, from_arrays
from marline.errors import ConfigError
from marline.samplers import OTC, SAMPLERS, EmbeddingDistance, Shuffled

TASK = "cooperative-navigation-2"


@pytest.fixture(autouse=True)
def nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is compared here are configurations; that they can be run is shown elsewhere."""
    monkeypatch.setattr(planning, "check_compatible", lambda config, sizes: [])


def by_command(arguments: str) -> Any:
    return configure(tyro.cli(Run, args=["--run", "unused", *shlex.split(arguments)]))


def logs(num_rows: int = 400) -> dict[str, Dataset]:
    random = np.random.default_rng(0)
    rows = {"observations": random.normal(size=(num_rows, 2)), "actions": random.uniform(-1, 1, (num_rows, 1))}
    ends = {"terminals": np.zeros(num_rows, bool), "timeouts": np.arange(1, num_rows + 1) % 10 == 0}
    return {"arm": from_arrays("arm", {**rows, "rewards": np.zeros(num_rows), **ends})}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_both_ways(name: str) -> None:
    task = f"{TASK}-discrete" if name == "cql" else TASK
    command = by_command(f"--task {task} --algorithm {name} --sampler uniform --seeds 2")
    assert plan_study(task=task, algorithm=name, samplers=["uniform"], seeds=2) == command
    assert plan_study(task=task, algorithm=ALGORITHMS[name](), samplers=["uniform"], seeds=2) == command
    assert plan_study(task=task, algorithm=ALGORITHMS[name](), samplers=["uniform"], seeds=(0, 1)) == command


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in CONTROLS])
def test_every_sampler_both_ways(name: str) -> None:
    command = by_command(f"--task {TASK} --sampler {name} --hidden 8 4 --seeds 1 --dataset-size 900")
    settings: dict[str, Any] = {"task": TASK, "hidden": (8, 4), "seeds": 1, "dataset_size": 900}
    assert plan_study(samplers=[name], **settings) == command
    assert plan_study(samplers={name: name}, **settings) == command
    assert plan_study(samplers={name: SAMPLERS[name]}, **settings) == command


def test_options_variants_and_controls_both_ways() -> None:
    command = by_command(
        f"--task {TASK} --algorithm bcq --sampler 'fixed=otc-value(alpha=2, adaptive=false)' otc-embedding shuffled "
        "--algorithm-option gamma=0.9 --sampler-option batch_size=32 --deployment-fraction 0.02"
    )
    fixed = OTC("value", alpha=2.0, adaptive=False, batch_size=32)
    embedding = OTC("embedding", batch_size=32)  # whose widths are BCQ's by themselves
    assert EmbeddingDistance().hidden == BCQ().hidden
    assert command.samplers == {
        "fixed": fixed,
        "shuffled-fixed": Shuffled(fixed),
        "otc-embedding": embedding,
        "shuffled-otc-embedding": Shuffled(embedding),
    }
    by_python = plan_study(
        task=TASK,
        algorithm=BCQ(gamma=0.9),
        samplers={"fixed": fixed, "otc-embedding": OTC("embedding", batch_size=32), "shuffled": "shuffled"},
        rows_per_deployment=20_000,
    )
    assert by_python == command


def by_train(arguments: str) -> Any:
    return configure_campaign(tyro.cli(Train, args=["--run", "unused", *shlex.split(arguments)]), logs())


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "cql"])
def test_campaigns_by_every_algorithm_both_ways(name: str) -> None:
    command = by_train(f"--algorithm {name}")
    assert plan_campaign(logs=logs(), algorithm=name) == command
    assert plan_campaign(logs=logs(), algorithm={"arm": ALGORITHMS[name]()}).updates == command.updates
    assert command.updates == (4000 if name in ("bcq", "mabcq") else 2000) and command.rows_per_deployment == 4


def test_campaigns_by_sampler_both_ways() -> None:
    command = by_train("--sampler otc-two-stage --sampler-option alpha=2 --hidden 4 --seed 3")
    given = OTC("two-stage", alpha=2.0)
    by_python = plan_campaign(logs=logs(), sampler=given, algorithm=TD3BC(hidden=(4,)), seed=3)
    assert list(command.samplers.values()) == [given] == list(by_python.samplers.values())
    assert command.algorithm == by_python.algorithm and command.seeds == by_python.seeds


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"seeds": 0}, "seeds is 0, but a run needs at least 1"),
        ({"dataset_size": 0}, "dataset_size is 0"),
        ({"logs": logs(), "dataset_size": 5}, "given logs take its place"),
        ({"hidden": (0,)}, "every layer needs at least 1 unit"),
        ({"algorithm": "bremen", "offline_updates": 10}, "BREMEN needs 84000 before it has anything to deploy"),
        ({"algorithm": {"agent_0": TD3BC()}}, "algorithm has no entry for agent 'agent_1'"),
        ({"algorithm_options": {"alhpa_bc": 1}}, "did you mean 'alpha_bc'"),
        ({"samplers": {"mine": OTC}}, "but must be a string, or a Sampler"),
        ({"samplers": {"offline": "uniform"}}, "would share a folder"),
        ({"samplers": ["uniform", "shuffled"]}, "none is named"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        plan_study(**{"task": TASK, **settings})


def test_references_of_studies_train_no_real_team() -> None:
    for sampler, told in (("frozen", "trains nobody"), ("shuffled", "a real team is tuned by one")):
        with pytest.raises(ConfigError, match=told):
            plan_campaign(logs=logs(), sampler=sampler)


def test_a_world_that_drifts_has_a_frozen_team_beside_the_others() -> None:
    assert list(plan_study(task="drifting-navigation", samplers=["uniform"]).samplers) == ["uniform", "frozen"]

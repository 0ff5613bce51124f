"""The configuration of a run: written, read back, compared, and never trusted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from marline.algorithms import ALGORITHMS, BCQ, BREMEN, MABCQ, TD3BC
from marline.configuration.run_config import RunConfig, rebuild
from marline.configuration.selection import select_samplers
from marline.envs import CooperativeNavigation
from marline.errors import ConfigError, CorruptionError
from marline.inputs.options import with_options
from marline.samplers import OTC, SAMPLERS, EmbeddingDistance, OnlineMatched, Shuffled, TwoStageDistance


def config(**changes: object) -> RunConfig:
    samplers, matches = select_samplers(("uniform", "otc-value", "otc-embedding", "online-matched"))
    fields = {
        "task": "cooperative-navigation-4",
        "algorithm": TD3BC(hidden=(8,), alpha_bc=3.0),
        "samplers": samplers,
        "matches": matches,
        "seeds": (0, 4),
        "dataset_size": 1000,
    }
    return RunConfig(**(fields | changes))  # pyright: ignore[reportArgumentType]


def test_a_configuration_survives_json() -> None:
    given = config(
        samplers={
            "a": OTC(EmbeddingDistance(hidden=(3, 4), num_updates=7), alpha=0.5),
            "b": OTC(TwoStageDistance(compare="next"), adaptive=False),
            "control": OnlineMatched(),
        },
        matches={"control": "b"},
        sequential_exploration=0.1,
    )
    assert RunConfig.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_every_sampler_of_the_catalogue_survives_json() -> None:
    given = config(samplers=dict(SAMPLERS), matches={})
    assert RunConfig.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_the_shuffled_control_of_a_sampler_survives_json() -> None:
    inner = OTC(EmbeddingDistance(size=3, hidden=(7,)), alpha=2.0, match="refresh")
    given = config(samplers={"shuffled": Shuffled(inner)}, matches={})
    assert RunConfig.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_options_of_a_shuffled_control_are_those_of_what_it_shuffles() -> None:
    changed = with_options(Shuffled(OTC()), {"alpha": 2, "num_groups": 8}, "shuffled")
    assert changed == Shuffled(OTC(alpha=2.0, num_groups=8))


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_of_the_catalogue_survives_json(name: str) -> None:
    given = config(algorithm=ALGORITHMS[name]())
    assert RunConfig.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_an_algorithm_for_each_agent_survives_json() -> None:
    given = config(algorithm={"left": BREMEN(known_reward=CooperativeNavigation(3)), "right": MABCQ(BCQ(hidden=(3,)))})
    assert RunConfig.from_json(json.loads(json.dumps(given.to_json()))) == given


def test_an_option_reaches_what_a_dataclass_is_made_of() -> None:
    assert with_options(MABCQ(), {"hidden": (5,), "optimism": 0.25}, "mabcq") == MABCQ(BCQ(hidden=(5,)), optimism=0.25)
    with pytest.raises(ConfigError, match="did you mean 'optimism'"):
        with_options(MABCQ(), {"optimsm": 0.1}, "mabcq")


def test_the_difference_names_what_differs() -> None:
    assert config().difference(config()) == []
    (line,) = config(updates=5).difference(config())
    assert line == "updates: 2000 there, 5 here"
    here, there = ({"mine": OTC(alpha=2.0)}, {"uniform": OTC()})
    lines = config(samplers=here, matches={}).difference(config(samplers=there, matches={}))
    assert [line.partition(":")[0] for line in lines] == ["sampler uniform", "sampler mine"]
    # of parts that are of one type, what differs within; of others, their types
    (line,) = config(algorithm=TD3BC(hidden=(8,))).difference(config(algorithm=TD3BC(hidden=(4,))))
    assert line == "algorithm hidden: [4] there, [8] here"
    (line,) = config(algorithm=BCQ()).difference(config(algorithm=TD3BC()))
    assert line == "algorithm type: TD3BC there, BCQ here"


def test_a_file_never_decides_what_code_is_run() -> None:
    with pytest.raises(ConfigError, match="there is no type 'Popen'"):
        rebuild({"type": "Popen", "args": ["true"]})


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 0}', '{"schema": 1, "samplers": []}', "\xff"])
def test_a_damaged_configuration_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CorruptionError, match=r"run\.json is not the configuration of a run"):
        RunConfig.read(path)


def test_a_run_gains_seeds_and_samplers_and_loses_none() -> None:
    samplers, matches = select_samplers(("uniform", "otc-value", "shuffled"))
    before = config(samplers=samplers, matches=matches, seeds=(0, 4), evaluation_seed=None)
    more, theirs = select_samplers(("uniform", "balanced", "online-matched"))
    after = before.extended(config(samplers=more, matches=theirs, seeds=(0, 1, 2)))
    assert after.seeds == (0, 4, 1, 2)
    assert list(after.samplers) == ["uniform", "otc-value", "shuffled-otc-value", "balanced", "online-matched-balanced"]
    assert after.matches == {"shuffled-otc-value": "otc-value", "online-matched-balanced": "balanced"}
    assert after.evaluation_seed is None, "all seeds of a run are evaluated alike"
    assert before.extended(before) == before


def test_a_run_does_not_become_another() -> None:
    with pytest.raises(ConfigError, match="updates: 2000 there, 5 here"):
        config().extended(config(updates=5))
    with pytest.raises(ConfigError, match="sampler mine alpha: 1.0 there, 2.0 here"):
        config(samplers={"mine": OTC("value", alpha=1.0)}, matches={}).extended(
            config(samplers={"mine": OTC("value", alpha=2.0)}, matches={})
        )


def test_a_campaign_gains_nothing() -> None:
    mine = config(task=None, samplers={"otc": OTC()}, matches={}, seeds=(0,), dataset_size=None)
    assert mine.extended(mine) == mine
    with pytest.raises(ConfigError, match=r"seeds: \[0\] there, \[1\] here"):
        mine.extended(dataclasses.replace(mine, seeds=(1,)))


def test_a_run_of_0_1_0_keeps_the_episodes_of_its_seeds() -> None:
    document = config().to_json()
    document |= {"schema": 1}
    del document["evaluation_seed"]
    assert RunConfig.from_json(document) == config(evaluation_seed=None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seeds": ()}, "no seeds"),
        ({"seeds": (1, 1)}, "repeat"),
        ({"seeds": (-1,)}, "must lie in"),
        ({"samplers": {}}, "no samplers"),
        ({"samplers": {"../../elsewhere": OTC()}, "matches": {}}, "cannot name a file"),
        ({"samplers": {"Offline": OTC()}, "matches": {}}, "would share a folder"),
        ({"samplers": {"a": OTC(), "A": OTC()}, "matches": {}}, "samplers a, A would share a folder"),
        ({"samplers": {"a": OTC()}, "matches": {"b": "a"}}, "is no sampler of the run"),
        ({"updates": 0}, "updates is 0"),
        ({"dataset_size": 0}, "dataset_size is 0"),
        ({"sequential_exploration": 1.5}, "sequential_exploration is 1.5, but is a probability"),
    ],
)
def test_a_configuration_that_cannot_be_run_is_refused(changes: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config(**changes)


def test_options_take_the_type_of_their_field() -> None:
    algorithm = with_options(TD3BC(), {"alpha_bc": 3, "hidden": [4, 5], "policy_delay": 1}, "td3-bc")
    assert algorithm == TD3BC(alpha_bc=3.0, hidden=(4, 5), policy_delay=1)
    assert type(algorithm.alpha_bc) is float
    assert with_options(TD3BC(), {"hidden": 7}, "td3-bc").hidden == (7,)
    assert with_options(OTC(), {"draw": "stratified"}, "otc-value").draw == "stratified"


@pytest.mark.parametrize(
    ("value", "options", "told"),
    [
        (TD3BC(), {"alpha": 1}, "unknown option of it 'alpha'; did you mean 'alpha_bc'"),
        (TD3BC(), {"alpha_bc": "much"}, "alpha_bc of it is 'much', but must be a finite number"),
        (TD3BC(), {"policy_delay": 1.5}, "must be a whole number"),
        (OTC(), {"adaptive": 1}, "must be true or false"),
        (OTC(), {"draw": "stratifed"}, "did you mean 'stratified'"),
    ],
)
def test_options_of_another_type_are_refused(value: object, options: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        with_options(value, options, "it")

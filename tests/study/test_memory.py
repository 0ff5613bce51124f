"""Memory of stacked learners: reckoned from shapes, told, and divided into groups that fit."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from marline.algorithms import TD3BC
from marline.configuration.run_config import RunConfig
from marline.data.experience import Experience
from marline.samplers import FreshShare, Frozen, ReturnWeighted, Uniform
from marline.study.memory import bytes_of_learners, plan_memory
from marline.types import Spec

SPEC, ROWS = Spec(3, 1), 1000
CONFIG = RunConfig(
    task="hopper-3x1",
    algorithm=TD3BC(hidden=(4,)),
    samplers={
        "uniform": Uniform(),
        "fresh": FreshShare(),
        "by-return": ReturnWeighted(),
        "frozen": Frozen(),
    },
    seeds=(0, 1, 2, 3, 4),
    dataset_size=ROWS,
    rows_per_deployment=50,
    offline_updates=4,
    deployments=2,
    updates=4,
    evaluation_episodes=3,
)
SIZES = {"left": (SPEC, ROWS), "right": (SPEC, ROWS)}


@pytest.fixture(scope="module")
def of_agent() -> dict[str, int]:
    outline = Experience.outline(SPEC, num_offline=ROWS, num_deployments=2, rows_per_deployment=50)
    return bytes_of_learners(CONFIG, "left", outline)


def test_a_learner_has_networks_online_rows_and_what_rows_are_drawn_by(of_agent: dict[str, int]) -> None:
    learner = jax.eval_shape(
        lambda rows, key: CONFIG.algorithm.init(rows, key=key),  # pyright: ignore[reportAttributeAccessIssue]
        Experience.outline(SPEC, num_offline=ROWS, num_deployments=2, rows_per_deployment=50),
        jax.eval_shape(lambda: jax.random.key(0)),
    )
    networks = sum(4 * int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(learner))
    online, table, windows = 2 * 50 * 16 * 4, ROWS * 8, 4 + 3 * 3 * 4
    # all three draw by plans, so that all have a table if one has
    assert of_agent["uniform"] == of_agent["fresh"] == 3 * networks + 2 * online + table + windows
    assert of_agent["by-return"] == of_agent["uniform"] + table  # its memory is one, too
    assert of_agent["frozen"] == 0


def test_what_does_not_fit_is_divided_by_seeds_then_by_samplers(of_agent: dict[str, int]) -> None:
    rows = 2 * 2 * ROWS * (16 * 4 + 1)
    together = 2 * sum(of_agent.values())
    whole = plan_memory(CONFIG, SIZES, CONFIG.seeds, rows + 5 * together)
    assert whole.seeds == [(0, 1, 2, 3, 4)] and whole.samplers == [list(CONFIG.samplers)]
    assert (whole.rows, whole.most) == (rows, rows + 5 * together)
    assert "4 samplers x 5 seeds are trained at once" in str(whole) and "groups" not in str(whole)

    some = plan_memory(CONFIG, SIZES, CONFIG.seeds, rows + 5 * together - 1)
    assert some.seeds == [(0, 2, 4), (1, 3)] and some.samplers == whole.samplers
    assert "2 groups of seeds and 1 of samplers" in str(some)

    two = 2 * (of_agent["uniform"] + of_agent["fresh"])
    few = plan_memory(CONFIG, SIZES, CONFIG.seeds, rows + two)
    assert few.seeds == [(seed,) for seed in CONFIG.seeds]
    assert few.samplers == [["uniform", "fresh"], ["by-return", "frozen"]]
    assert few.most <= few.available

    none = plan_memory(CONFIG, SIZES, CONFIG.seeds, rows)
    assert len(none.samplers) == 4 and "even so it may not fit" in str(none)

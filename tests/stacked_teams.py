"""Small teams that are tuned side by side, and what the program that tunes them is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr

from marline import population, tuning
from marline.agent import tune
from marline.algorithms import TD3BC
from marline.data.dataset import Dataset
from marline.population import Stack, rearranged
from marline.samplers import OTC
from marline.types import Spec

AGENTS = {"left": Spec(3, 1), "middle": Spec(3, 1), "right": Spec(5, 2)}
ALGORITHM = TD3BC(hidden=(4,), learning_rate=1e-3)
ROWS = 12
REFRESHED = OTC(
    "value", num_candidates=16, num_references=8, batch_size=8, num_estimate=16, match="refresh", num_groups=2
)


def make_logs(agent: str, num: int, seed: int) -> Dataset:
    spec, rng = AGENTS[agent], np.random.default_rng((seed, len(agent)))
    return Dataset(
        observations=rng.normal(size=(num, spec.observation_size)).astype(np.float32),
        actions=rng.uniform(-1, 1, (num, spec.action_size)).astype(np.float32),
        rewards=rng.normal(size=num).astype(np.float32),
        terminals=np.zeros(num, bool),
        timeouts=np.arange(1, num + 1) % 4 == 0,
        next_observations=rng.normal(size=(num, spec.observation_size)).astype(np.float32),
        spec=spec,
    )


def team_of(num_seeds: int, *agents: str) -> tuning.Team:
    data = {agent: make_logs(agent, 40, 0) for agent in agents or ("left",)}
    return tuning.init_team(data, ALGORITHM, seeds=range(num_seeds), num_deployments=2, rows_per_deployment=ROWS)


def deploy(number: int, policies: Mapping[tuning.LearnerID, Any]) -> dict[tuning.LearnerID, Dataset]:
    return {(seed, agent): make_logs(agent, ROWS, 100 * seed + number) for seed, agent in policies}


def close(one: Any, other: Any, tolerance: float = 1e-3) -> None:
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=tolerance, atol=tolerance)


def primitives(jaxpr: Jaxpr | ClosedJaxpr) -> Iterator[str]:
    """Names of all primitives, those within loops and branches too."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield equation.primitive.name
        for parameter in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)
        ):
            if isinstance(parameter, Jaxpr | ClosedJaxpr):
                yield from primitives(parameter)


def program(team: tuning.Team, sampler: Any, algorithm: Any = ALGORITHM) -> tuple[Counter[str], int]:
    """How often each primitive is in the program that tunes a team, and how many arrays come out of it."""
    assert isinstance(team, Stack)
    arguments = [
        team,
        *(team.beside({learner: jax.random.key(i) for i, learner in enumerate(team)}) for _ in range(2)),
        team.beside(dict.fromkeys(team, jnp.int32(0))),
    ]
    (group,) = rearranged(lambda *its: its, *arguments).groups  # pyright: ignore[reportAttributeAccessIssue]
    static = (("algorithm", algorithm), ("sampler", sampler), ("num_updates", 4))
    traced = population._over_learners(tune, static).trace(group.stacked, size=group.size, tables=False)
    return Counter(primitives(traced.jaxpr)), len(jax.tree.leaves(traced.out_info))

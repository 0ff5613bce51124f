"""How few actions V needs where d_q compares it: rank correlation of its distances with those of many actions.

    python experiments/value_samples.py          # a few minutes on one core

Two agents of Cooperative Navigation learn from 50,000 random rows each; their team is deployed for 2000. Then 512
candidates are matched with these rows, with distances by V over 200 actions, the same noise for all rows, and over few
actions, with the same noise for all rows or with noise of its own for each. A row that is matched with itself should
have the best rank, with others that are.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from jaxtyping import Array

from marline import tuning
from marline.agent import AgentState
from marline.algorithms import AWAC, BCQ
from marline.data.experience import Experience
from marline.envs import CooperativeNavigation
from marline.ops.matching import best_match_scalar
from marline.ops.value_targets import next_values
from marline.rollouts.collection import collect, collect_random
from marline.runtime import set_up_jax

OFFLINE_ROWS, ONLINE_ROWS, CANDIDATES = 50_000, 2000, 512
UPDATES, REPEATS, MANY, FEW = 2000, 3, 200, (1, 3, 10)
LEARNERS: dict[str, tuple[Any, str, dict[str, dict[str, Any]]]] = {
    "BCQ": (BCQ(), "num_value_candidates", {"mean": {}, "max": {"value": "max"}}),
    "AWAC": (AWAC(hidden=(64, 64)), "num_value_samples", {"mean": {}}),
}


@functools.partial(jax.jit, static_argnums=(0, 1))
def measure(algorithm: Any, one_draw: bool, learner: Any, experience: Experience, row_key: Array, key: Array) -> Any:
    """Distance of each candidate, before the division that all have in common, and whether it is its own match."""
    match_key, value_key = jax.random.split(key)
    candidates = jax.random.randint(row_key, (CANDIDATES,), 0, OFFLINE_ROWS + ONLINE_ROWS)
    references = jnp.arange(OFFLINE_ROWS, OFFLINE_ROWS + ONLINE_ROWS)
    critic = algorithm.critic(learner)
    batch = experience[jnp.concatenate([candidates, references])]
    q_values = jax.vmap(critic.q)(batch.observation, batch.action)
    values = next_values(critic, batch, key=value_key, one_draw=one_draw)
    matches = best_match_scalar(q_values[:CANDIDATES], q_values[CANDIDATES:], key=match_key)
    return jnp.abs(values[:CANDIDATES] - values[CANDIDATES:][matches]), references[matches] == candidates


def compare(name: str, algorithm: Any, field: str, agents: list[AgentState]) -> None:
    keys = [
        (agent, jax.random.split(key, 3)) for agent in agents for key in jax.random.split(jax.random.key(1), REPEATS)
    ]

    def measured(num: int, one_draw: bool, noise: int) -> list[tuple[np.ndarray, np.ndarray]]:
        changed = dataclasses.replace(algorithm, **{field: num})
        return [
            jax.device_get(measure(changed, one_draw, agent.learner, agent.experience, key[0], key[noise]))
            for agent, key in keys
        ]

    truth = [distances for distances, _ in measured(MANY, True, 1)]
    for num in FEW:
        for one_draw in (False, True):
            found = measured(num, one_draw, 2)
            correlations: list[Any] = [
                scipy.stats.spearmanr(true, distances)[0] for true, (distances, _) in zip(truth, found, strict=True)
            ]
            ranks = np.concatenate([scipy.stats.rankdata(distances, "min")[own] for distances, own in found])
            print(
                f"| {name} | {num} | {'the same for all rows' if one_draw else 'of each row'} "
                f"| {np.mean(correlations):.3f} | {np.median(ranks):.0f}, {ranks.max():.0f} of {CANDIDATES} |",
                flush=True,
            )


def main() -> None:
    set_up_jax()
    task = CooperativeNavigation(2)
    logs = collect_random(task, OFFLINE_ROWS, seed=0)
    print("| V | actions | noise | rank correlation | rank of a row that is its own match: median, worst |")
    print("|---|---|---|---|---|", flush=True)
    for name, (algorithm, field, variants) in LEARNERS.items():
        team = tuning.init_team(logs, algorithm, seeds=[0], num_deployments=1, rows_per_deployment=ONLINE_ROWS)
        *_, trained = tuning.pretrain(team, algorithm, num_updates=UPDATES)
        policies = {agent: policy for (_, agent), policy in tuning.policies(trained.team, algorithm).items()}
        online = collect(task, policies, ONLINE_ROWS, key=jax.random.key(2), deployment=1)
        team = tuning.merge(trained.team, {(0, agent): online[agent] for agent in online}, 1, algorithm)
        for variant, options in variants.items():
            compare(f"{name}, {variant}", dataclasses.replace(algorithm, **options), field, list(team.values()))


if __name__ == "__main__":
    main()

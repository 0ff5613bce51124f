"""What partners did in logged rows, against what they would do today: no agent can know it, a study can.

Each row of an agent's log must be of the same step as that row of its partners' logs. Then the true weight of a row is
P_today(what partners did | what they saw) / P_logs(the same): rows drawn by it tell an agent what would have followed
its actions beside the partners of today.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.data.dataset import Dataset
from marline.data.experience import Experience
from marline.envs import Finite, Task
from marline.envs.finite import true_ratio
from marline.errors import ConfigError
from marline.types import AgentID, Policy, Spec, Transition

NUM_DRAWS = 4  # of a choice by a policy at each logged observation: it may be a random one
NUM_CONTINUOUS_DRAWS = 1  # of an action: BCQ's costs a hundred candidates, and hardly differs from the next
NUM_DRAWS_PER_STATE = 1000  # the same in a world of few states
BLOCK = 4096  # rows at a time
LEAST = 1e-6  # of a ratio: of what partners never do today, so that weights can be tempered


def require_partners(agents: Mapping[AgentID, Any], sampler: str) -> None:
    """Raise `ConfigError` where there is one agent alone, beside whom nobody acts otherwise than before."""
    if len(agents) < 2:
        raise ConfigError(
            f"{sampler} knows what partners did and would do today, and {next(iter(agents))} has none; leave it out"
        )


def require_joint_logs(logs: Mapping[AgentID, Dataset | Experience], sampler: str) -> None:
    """Raise `ConfigError` unless each row of every agent's offline log can be of one step of the team.

    Looked at are the numbers of rows and where episodes end; of logs that agree in both by chance nothing is known.

    Args:
        logs: offline, by agent.
        sampler: its name, for messages.
    """
    (first, known), *others = ((agent, _ends(log)) for agent, log in logs.items())
    for agent, ends in others:
        wrong = None
        if len(ends) != len(known):
            wrong = f"have {len(known)} and {len(ends)} rows"
        elif (ends != known).any():
            wrong = f"do not end the same episodes at row {int(np.argmax(ends != known))}"
        if wrong is not None:
            raise ConfigError(
                f"{sampler} needs the joint log, in which each row of every agent is of the same step, but the logs of "
                f"{first!r} and {agent!r} {wrong}; leave {sampler} out, or give logs that were made together"
            )


def true_log_ratios(
    task: Task,
    experiences: Mapping[AgentID, Experience],
    policies: Mapping[AgentID, Policy],
    *,
    tolerance: float,
    key: PRNGKeyArray,
) -> dict[AgentID, Float[np.ndarray, " offline"]]:
    """ln P_today(partners' actions) - ln P_logs(the same) of each offline row of every agent.

    In a world of few states (`Finite`) P_today is the law of the partner's policy in each state, P_logs how often the
    partner chose so after the same state and own choice in the logs themselves. So of each state and own choice as many
    rows count as before, and drawing by the weights changes nothing but what the partner does.

    Elsewhere partners count one by one. Of continuous actions P_today is a Gaussian about what the policy does,
    `tolerance` wide, and of choices how often it makes them; P_logs is taken to be the same for all actions, as it is
    where the logs are of random play. In other logs rows of situations in which partners used to act as they do
    today count for more than they should; what follows an action is right all the same.

    Args:
        task: what is played.
        experiences: of every agent, with joint offline logs.
        policies: today's, of every agent.
        tolerance: of continuous actions.
        key: consumed by policies that draw their actions.
    """
    keys = {agent: jax.random.fold_in(key, zlib.crc32(agent.encode())) for agent in experiences}
    if isinstance(task, Finite):
        return _exact(task, experiences, policies, keys)
    densities = {
        agent: np.asarray(_log_density(policies[agent], its, tolerance, keys[agent]), np.float64)
        for agent, its in experiences.items()
    }
    return {
        agent: np.sum([its for other, its in densities.items() if other != agent], axis=0).astype(np.float32)
        for agent in experiences
    }


def _exact(
    task: Finite,
    experiences: Mapping[AgentID, Experience],
    policies: Mapping[AgentID, Policy],
    keys: Mapping[AgentID, PRNGKeyArray],
) -> dict[AgentID, Float[np.ndarray, " offline"]]:
    agents = list(experiences)
    logs = [jax.device_get(experiences[agent].offline()) for agent in agents]
    ratios = {}
    for i, agent in enumerate(agents):
        j = 1 - i
        num_own, num_others = (experiences[agents[k]].spec.action_size for k in (i, j))
        today = np.asarray(
            _law(policies[agents[j]], jnp.asarray(task.observations_of(j), jnp.float32), num_others, keys[agents[j]])
        )
        states = task.states_of(np.asarray(logs[i].observation), i)
        after = states * num_own + logs[i].action
        law = law_in(after, logs[j].action, (len(today) * num_own, num_others))
        ratio = true_ratio(np.repeat(today, num_own, axis=0), law, after, logs[j].action)
        ratios[agent] = np.log(np.maximum(ratio, LEAST)).astype(np.float32)
    return ratios


def law_in(
    states: Int[np.ndarray, " n"], choices: Int[np.ndarray, " n"], shape: tuple[int, int]
) -> Float[np.ndarray, "S choices"]:
    """How often each choice was made in each state of some rows; of a state that none is in, 0."""
    counts = np.zeros(shape)
    np.add.at(counts, (states, choices), 1.0)
    return counts / np.maximum(counts.sum(axis=1, keepdims=True), 1.0)


@functools.partial(jax.jit, static_argnames="num_choices")
def _law(
    policy: Any, observations: Float[Array, "S obs"], num_choices: int, key: PRNGKeyArray
) -> Float[Array, "S choices"]:
    """Probability of each choice of a policy at each observation, by drawing."""

    def draw(observation: Array, key: PRNGKeyArray) -> Array:
        return jax.nn.one_hot(policy(observation, key=key), num_choices)

    def at(observation: Array) -> Array:
        return jnp.mean(jax.vmap(draw, (None, 0))(observation, jax.random.split(key, NUM_DRAWS_PER_STATE)), axis=0)

    return jax.lax.map(at, observations)


@functools.partial(jax.jit, static_argnames="tolerance")
def _log_density(policy: Any, experience: Experience, tolerance: float, key: PRNGKeyArray) -> Float[Array, " offline"]:
    """ln of the density of each logged action today, over the density of one of all that there are."""
    spec, num = experience.spec, experience.num_offline
    num_draws = NUM_DRAWS if spec.discrete else NUM_CONTINUOUS_DRAWS

    def of_row(row: Int[Array, ""]) -> Float[Array, ""]:
        logged: Transition = experience[row]

        def draw(key: PRNGKeyArray) -> Array:
            return policy(logged.observation, key=key, action_mask=logged.action_mask)

        drawn = jax.vmap(draw)(jax.random.split(jax.random.fold_in(key, row), num_draws))
        return log_density_among(logged, drawn, spec, tolerance)

    return jax.lax.map(of_row, jnp.arange(num), batch_size=min(BLOCK, num))


def log_density_among(
    logged: Transition, drawn: Float[Array, "draws act"] | Int[Array, " draws"], spec: Spec, tolerance: float
) -> Float[Array, ""]:
    """How likely an action is, by actions that were drawn in its place; up to a constant if continuous.

    Continuous: ln mean_k exp(-|a - a_k|^2 / (2 tolerance^2)). A choice: ln of A (n + 1 / A) / (draws + 1), with n of
    the draws the same and A choices allowed, so that what was never drawn is unlikely rather than impossible.
    """
    if not spec.discrete:
        missed = jnp.sum(jnp.square(drawn - logged.action[None, :]), axis=-1) / (2.0 * tolerance**2)
        return jax.nn.logsumexp(-missed) - jnp.log(len(drawn))
    assert logged.action_mask is not None
    allowed = jnp.sum(logged.action_mask)
    same = jnp.sum(drawn == logged.action)
    return jnp.log((allowed * same + 1.0) / (len(drawn) + 1.0))


def _ends(log: Dataset | Experience) -> np.ndarray:
    if isinstance(log, Experience):
        return np.asarray(log.offline_ends)
    ends = log.terminals | log.timeouts
    ends[-1:] = True
    return ends

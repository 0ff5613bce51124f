"""Roll-outs of a team in a simulated task: its logs, its returns, its trajectories."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.dataset import Dataset
from marline.envs import Task
from marline.policy import RandomPolicy
from marline.types import AgentID, Policy, Spec, Transition

Policies = Mapping[AgentID, Policy]
EPISODES_PER_BLOCK = 100  # played at a time, whatever they are for: one compiled program serves all


class Rollout(NamedTuple):
    """Whole episodes of fixed length, one leading axis for episodes and one for steps."""

    transitions: dict[AgentID, Transition]
    rewards: Float[Array, "episodes steps"]
    drawings: Mapping[str, Float[Array, "episodes steps n 2"]]


def rollout(task: Task, policies: Policies, num_episodes: int, *, key: PRNGKeyArray) -> Rollout:
    """Play episodes 0, 1, ..., `num_episodes` - 1 in parallel worlds.

    Args:
        task: a task whose episodes all last `horizon` steps.
        policies: one policy per agent.
        num_episodes: how many are returned.
        key: consumed by worlds and policies; each episode's stream depends on its number alone.

    Returns:
        NumPy arrays.
    """
    blocks = [
        jax.device_get(_play(task, dict(policies), key, first)) for first in range(0, num_episodes, EPISODES_PER_BLOCK)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:num_episodes], *blocks)


@functools.partial(jax.jit, static_argnames="task")
def _play(task: Task, policies: Any, key: PRNGKeyArray, first_episode: Array | int) -> Rollout:
    def episode(number: Array) -> Rollout:
        reset_key, play_key = jax.random.split(jax.random.fold_in(key, number))
        agent_keys = {agent: jax.random.fold_in(play_key, zlib.crc32(agent.encode())) for agent in task.agents}

        def step(state: Any, time: Array) -> tuple[Any, Any]:
            observations, masks = task.observe(state), task.action_masks(state)
            actions = {
                agent: policies[agent](
                    observations[agent], key=jax.random.fold_in(agent_keys[agent], time), action_mask=masks.get(agent)
                )
                for agent in task.agents
            }
            after, reward, terminated = task.step(state, actions, key=jax.random.fold_in(play_key, time))
            next_observations, next_masks = task.observe(after), task.action_masks(after)
            discount = 1.0 - terminated.astype(jnp.float32)
            transitions = {
                agent: Transition(
                    observations[agent],
                    actions[agent],
                    reward,
                    discount,
                    next_observations[agent],
                    masks.get(agent),
                    next_masks.get(agent),
                )
                for agent in task.agents
            }
            return after, Rollout(transitions, reward, task.drawing(after))

        return jax.lax.scan(step, task.reset(key=reset_key), jnp.arange(task.horizon))[1]

    return jax.vmap(episode)(first_episode + jnp.arange(EPISODES_PER_BLOCK))


def collect(task: Task, policies: Policies, num_rows: int, *, key: PRNGKeyArray) -> dict[AgentID, Dataset]:
    """Exactly `num_rows` logged steps per agent, episode after episode.

    The last episode is cut short where the rows run out; the cut row is a time-out, as is the
    last row of every episode.
    """
    played = rollout(task, policies, -(-num_rows // task.horizon), key=key)
    timeouts = np.arange(1, num_rows + 1) % task.horizon == 0
    timeouts[-1] = True
    return {
        agent: _dataset(task.specs[agent], transitions, timeouts) for agent, transitions in played.transitions.items()
    }


def collect_random(task: Task, num_rows: int, *, seed: int) -> dict[AgentID, Dataset]:
    """`num_rows` steps per agent of uniformly random actions; bit-identical for a seed."""
    policies = {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}
    return collect(task, policies, num_rows, key=jax.random.key(seed))


def _dataset(spec: Spec, episodes: Transition, timeouts: np.ndarray) -> Dataset:
    rows: Transition = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[: len(timeouts)], episodes)
    terminals = np.asarray(rows.discount) == 0.0
    return Dataset(
        spec=spec,
        observations=np.asarray(rows.observation),
        actions=np.asarray(rows.action, np.int64 if spec.discrete else np.float32),
        rewards=np.asarray(rows.reward),
        terminals=terminals,
        timeouts=timeouts & ~terminals,
        next_observations=np.asarray(rows.next_observation),
        action_masks=None if rows.action_mask is None else np.asarray(rows.action_mask),
        next_action_masks=None if rows.next_action_mask is None else np.asarray(rows.next_action_mask),
    )


class Evaluation(NamedTuple):
    """How a team did: the undiscounted return of each episode, and how far each agent's continuous actions went."""

    returns: Float[np.ndarray, " episodes"]
    mean_abs_action: dict[AgentID, float]


def evaluate(task: Task, policies: Policies, num_episodes: int, *, key: PRNGKeyArray) -> Evaluation:
    """Play episodes that are fixed by the key: the same ones for every team."""
    played = rollout(task, policies, num_episodes, key=key)
    return Evaluation(
        returns=np.asarray(played.rewards, np.float64).sum(axis=1),
        mean_abs_action={
            agent: float(np.abs(played.transitions[agent].action).mean())
            for agent in task.agents
            if not task.specs[agent].discrete
        },
    )


def trace(task: Task, policies: Policies, *, key: PRNGKeyArray) -> dict[str, Any]:
    """The first of those episodes as points to draw: agents per step, landmarks, and its return."""
    played = rollout(task, policies, 1, key=key)
    points = {name: np.round(values[0], 4) for name, values in played.drawings.items()}
    landmarks = points.get("landmarks")
    return {
        "agents": points["agents"].tolist(),
        "landmarks": [] if landmarks is None else landmarks[-1].tolist(),
        "return": float(np.asarray(played.rewards, np.float64).sum()),
    }

"""Roll-outs of a team in a task: its logs, its returns, its trajectories."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from marline.data.channels import Channels
from marline.data.dataset import Dataset
from marline.envs import Drifting, Simulator, Task, World, channels_of, name_of
from marline.envs.checked_worlds import require_sound, require_world
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked_arguments
from marline.policy import Exploring, RandomPolicy
from marline.rollouts import simulation
from marline.rollouts.rollout import Policies, Rollout, playing
from marline.types import AgentID, Spec, Transition

EPISODES_PER_BLOCK = 100  # played at a time, whatever they are for: one compiled program serves all
EPISODES_PER_ROUND = 20_000  # at most, before it is counted how many rows they gave
NO_TASK = (
    "{!r:.60} is neither a World nor a Simulator of marline.envs.task; an environment of PettingZoo's or Gymnasium's "
    "is given as marline.ParallelTask(make_env)"
)
ROUNDS_OF_SEATS = 8  # the same for simulators, in episodes per environment: seats stay empty at the end of a round


def rollout(
    task: Task,
    policies: Policies,
    num_episodes: int,
    *,
    key: PRNGKeyArray,
    first_episode: int = 0,
    deployment: int = 0,
) -> Rollout:
    """Play episodes `first_episode`, `first_episode` + 1, ...

    Args:
        task: what is played.
        policies: one policy per agent.
        num_episodes: how many are played.
        key: consumed by the task and policies; each episode's streams depend on its number alone.
        first_episode: number of the first.
        deployment: in the world of which deployment, where the task drifts; 0 is that of the offline logs.
    """
    if isinstance(task, Simulator):
        return simulation.play(task, policies, num_episodes, key=key, first_episode=first_episode)
    if isinstance(task, World):
        return _play_worlds(task, policies, num_episodes, key, first_episode, deployment)
    raise ConfigError(NO_TASK.format(task))


def _play_worlds(
    task: World, policies: Policies, num_episodes: int, key: PRNGKeyArray, first_episode: int, deployment: int
) -> Rollout:
    """Roll out worlds written in JAX, many in parallel, all steps in one compiled program."""
    require_world(task, name_of(task))
    played, drawing, length = None, {}, EPISODES_PER_BLOCK
    for done in range(0, num_episodes, length):
        *block, drawings = jax.device_get(
            _play_block(task, dict(policies), key, first_episode + done, deployment, num_episodes=length)
        )
        if played is None:  # of the whole size at once: blocks beside what they are joined to would be twice of that
            played = jax.tree.map(lambda rows: np.empty((num_episodes, *rows.shape[1:]), rows.dtype), block)
            drawing = {name: points[0] for name, points in drawings.items()}
        for rows, more in zip(jax.tree.leaves(played), jax.tree.leaves(block), strict=True):
            rows[done : done + length] = more[: num_episodes - done]
    assert played is not None, f"{num_episodes} episodes"
    transitions, rewards = played
    over = np.zeros(rewards.shape, bool)  # worlds are stepped on beyond a termination: those rows go
    over[:, 1:] = np.cumsum(transitions[task.agents[0]].discount == 0.0, axis=1)[:, :-1] > 0
    require_sound(transitions, over, name_of(task), first_episode)
    ends = np.zeros(rewards.shape, bool)
    ends[:, :-1] = over[:, 1:]
    ends[:, -1] = True
    if not over.any():  # a view, for this may be all there is memory for
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), transitions)
    else:
        rows = jax.tree.map(lambda x: x[~over], transitions)
    return Rollout(
        transitions=rows,
        ends=dict.fromkeys(task.agents, ends[~over]),
        returns=np.where(over, 0.0, rewards.astype(np.float64)).sum(axis=1),
        drawing={name: points[~over[0]] for name, points in drawing.items()},
    )


@functools.partial(jax.jit, static_argnames=("task", "num_episodes"))
def _play_block(
    task: World,
    policies: Any,
    key: PRNGKeyArray,
    first_episode: Array | int,
    deployment: Array | int,
    *,
    num_episodes: int,
) -> tuple[dict[AgentID, Transition], Float[Array, "episodes steps"], dict[str, Float[Array, "episodes steps n 2"]]]:
    """A block of episodes side by side, until the last of them is over; what nobody played is zero."""

    def start(number: Array) -> tuple[Any, PRNGKeyArray]:
        reset_key, play_key = jax.random.split(jax.random.fold_in(key, number))
        state = task.reset(key=reset_key)
        return task.enter(state, jnp.asarray(deployment)) if isinstance(task, Drifting) else state, play_key

    def step(state: Any, play_key: PRNGKeyArray, time: Array) -> tuple[Any, Any]:
        observations, masks = task.observe(state), task.action_masks(state)
        actions = {}
        for agent in task.agents:
            agent_key = jax.random.fold_in(jax.random.fold_in(play_key, zlib.crc32(agent.encode())), time)
            actions[agent] = playing(policies[agent], play_key)(
                observations[agent], key=agent_key, action_mask=masks.get(agent)
            )
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
        return after, (transitions, reward, dict(task.drawing(after)))

    states, play_keys = jax.vmap(start)(first_episode + jnp.arange(num_episodes))
    step_all = jax.vmap(step, in_axes=(0, 0, None))
    shapes = jax.eval_shape(step_all, states, play_keys, jnp.int32(0))[1]

    def goes_on(carry: Any) -> Array:
        _, _, over, time = carry
        return (time < task.horizon) & ~jnp.all(over)

    def advance(carry: Any) -> Any:
        states, played, over, time = carry
        states, now = step_all(states, play_keys, time)
        played = jax.tree.map(lambda rows, row: rows.at[time].set(row), played, now)
        return states, played, over | (now[0][task.agents[0]].discount == 0.0), time + 1

    nothing = jax.tree.map(lambda row: jnp.zeros((task.horizon, *row.shape), row.dtype), shapes)
    nobody = jnp.zeros(num_episodes, bool)
    played = jax.lax.while_loop(goes_on, advance, (states, nothing, nobody, jnp.int32(0)))[1]
    return jax.tree.map(lambda rows: jnp.moveaxis(rows, 0, 1), played)


def collect(
    task: Task,
    policies: Policies,
    num_rows: int,
    *,
    key: PRNGKeyArray,
    deployment: int = 0,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[AgentID, Dataset]:
    """Exactly `num_rows` logged steps per agent, episode after episode.

    An agent's last episode is cut short where its rows run out; the cut row is a time-out, as is
    the last row of every episode that did not terminate. Agents that leave episodes early need
    more of them for as many rows. `progress` is told now and then how many rows there are.
    """
    most = ROUNDS_OF_SEATS * task.num_environments if isinstance(task, Simulator) else EPISODES_PER_ROUND
    rounds: list[Rollout] = []
    episodes = rows = 0  # played so far, and what the agent with the fewest logged
    while rows < num_rows:
        mean_length = rows / episodes if episodes else task.horizon
        wanted = min(int(np.ceil((num_rows - rows) / mean_length)), most)
        rounds.append(rollout(task, policies, wanted, key=key, first_episode=episodes, deployment=deployment))
        episodes += wanted
        rows = min(sum(len(played.ends[agent]) for played in rounds) for agent in task.agents)
        progress(min(rows, num_rows))
    channels = channels_of(task)
    return {agent: _dataset(task.specs[agent], channels[agent], agent, rounds, num_rows) for agent in task.agents}


def collect_in_turns(
    task: Task, policies: Policies, num_rows: int, *, epsilon: float, key: PRNGKeyArray, deployment: int = 0
) -> dict[AgentID, Dataset]:
    """`num_rows` logged steps per agent, each agent's from a turn of its own, in which it explores and no other does.

    Sequential exploration of the OTC paper, 4.6: what an agent logs shows the others as they will act.
    As many turns are played as there are agents, so that a row costs as many steps of the team.

    Args:
        task: what is played.
        policies: one per agent.
        num_rows: per agent.
        epsilon: how often the agent whose turn it is acts at random.
        key: consumed by the task and policies; every turn plays other episodes.
        deployment: see `rollout`.
    """
    logs = {}
    for explorer in task.agents:
        team = {  # all are wrapped, so that one compiled program serves every turn
            agent: Exploring(policy, jnp.float32(epsilon if agent == explorer else 0.0), task.specs[agent])
            for agent, policy in policies.items()
        }
        turn_key = jax.random.fold_in(key, zlib.crc32(explorer.encode()))
        logs[explorer] = collect(task, team, num_rows, key=turn_key, deployment=deployment)[explorer]
    return logs


@checked_arguments
def collect_random(task: Task, num_rows: int, *, seed: int) -> dict[AgentID, Dataset]:
    """`num_rows` steps per agent of uniformly random actions; bit-identical for a seed.

    Raises:
        ConfigError: `num_rows` below 1, or a seed outside [0, 2^31).
    """
    require(num_rows >= 1, f"num_rows is {num_rows}, but must be at least 1")
    require(0 <= seed < 2**31, f"seed is {seed}, but must lie in [0, 2^31)")
    policies = {agent: RandomPolicy(spec) for agent, spec in task.specs.items()}
    return collect(task, policies, num_rows, key=jax.random.key(seed))


def _dataset(spec: Spec, channels: Channels, agent: AgentID, rounds: list[Rollout], num_rows: int) -> Dataset:
    parts = [played.transitions[agent] for played in rounds]
    whole = parts[0] if len(parts) == 1 else jax.tree.map(lambda *columns: np.concatenate(columns), *parts)
    rows: Transition = jax.tree.map(lambda column: column[:num_rows], whole)
    ends = np.concatenate([played.ends[agent] for played in rounds])[:num_rows]
    ends[-1] = True
    terminals = np.asarray(rows.discount) == 0.0
    return Dataset(
        spec=spec,
        channels=channels,
        observations=np.asarray(rows.observation),
        actions=np.asarray(rows.action, np.int64 if spec.discrete else np.float32),
        rewards=np.asarray(rows.reward),
        terminals=terminals,
        timeouts=ends & ~terminals,
        next_observations=np.asarray(rows.next_observation),
        action_masks=None if rows.action_mask is None else np.asarray(rows.action_mask),
        next_action_masks=None if rows.next_action_mask is None else np.asarray(rows.next_action_mask),
    )


class Evaluation(NamedTuple):
    """How a team did: the undiscounted return of each episode, and how far each agent's continuous actions went."""

    returns: Float[np.ndarray, " episodes"]
    mean_abs_action: dict[AgentID, float]


def evaluate(
    task: Task, policies: Policies, num_episodes: int, *, key: PRNGKeyArray, deployment: int = 0
) -> Evaluation:
    """Play episodes that are fixed by the key: the same ones for every team."""
    played = rollout(task, policies, num_episodes, key=key, deployment=deployment)
    return Evaluation(
        returns=played.returns,
        mean_abs_action={
            agent: float(np.abs(played.transitions[agent].action).mean())
            for agent in task.agents
            if not task.specs[agent].discrete
        },
    )


def trace(task: Task, policies: Policies, *, key: PRNGKeyArray, deployment: int = 0) -> dict[str, Any]:
    """The first of those episodes as points to draw: agents per step, landmarks, and its return."""
    played = rollout(task, policies, 1, key=key, deployment=deployment)
    points = {name: np.round(values, 4) for name, values in played.drawing.items()}
    landmarks = points.get("landmarks")
    return {
        "agents": points["agents"].tolist() if "agents" in points else [],
        "landmarks": [] if landmarks is None else landmarks[-1].tolist(),
        "return": float(played.returns[0]),
    }

"""Roll-outs of a team in a task: its logs, its returns, its trajectories."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, PRNGKeyArray

from marline.data.channels import Channels
from marline.data.dataset import Dataset
from marline.envs import Drifting, Simulator, Task, World, channels_of, name_of
from marline.envs.checked_worlds import require_sound, require_world
from marline.errors import ConfigError, require
from marline.inputs.arguments import checked_arguments
from marline.policy import Exploring, RandomPolicy
from marline.population import stacks
from marline.rollouts import simulation
from marline.rollouts.rollout import Policies, Rollout, playing, stacked_teams
from marline.types import AgentID, Spec, Transition

T = TypeVar("T", bound=Hashable)

PLAYED_AT_ONCE = 1 << 30  # bytes of what teams play side by side, at most, unless one alone plays more
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
    numbers = range(first_episode, first_episode + num_episodes)
    return rollout_teams(task, {None: policies}, {None: numbers}, keys={None: key}, deployment=deployment)[None]


def rollout_teams(
    task: Task,
    teams: Mapping[T, Policies],
    episodes: Mapping[T, range],
    *,
    keys: Mapping[T, PRNGKeyArray],
    deployment: int = 0,
) -> dict[T, Rollout]:
    """`rollout` for several teams, who act at once where learners are stacked; they get what each would alone.

    Args:
        task: what is played.
        teams: by name, and of each its policies, which must be alike.
        episodes: which each of them plays. Who plays none is not told of, and acts for nobody: one compiled program
            serves all calls with as many teams.
        keys: of each.
        deployment: see `rollout`.
    """
    if not isinstance(task, Simulator | World):
        raise ConfigError(NO_TASK.format(task))
    played: dict[T, Rollout] = {}
    for names in at_once(task, teams):
        some = {name: teams[name] for name in names}
        if not any(episodes[name] for name in names):
            continue
        if isinstance(task, Simulator):
            played |= simulation.play_teams(task, some, episodes, keys=keys)
        else:
            played |= _play_worlds(task, some, episodes, keys, deployment)
    return played


def at_once(task: Task, teams: Iterable[T]) -> list[list[T]]:
    """Teams in groups that play at once: each alone where learners are not stacked.

    As many as there is memory for, in groups of about one size.
    """
    names = list(teams)
    if not stacks():
        return [[name] for name in names]
    num_groups = -(-len(names) // max(1, PLAYED_AT_ONCE // bytes_played(task)))
    return [names[number::num_groups] for number in range(num_groups)]


def bytes_played(task: Task) -> int:
    """Bytes of what a team plays side by side, at most."""
    episodes = task.num_environments if isinstance(task, Simulator) else EPISODES_PER_BLOCK
    width = sum(2 * spec.observation_size + 3 * spec.action_size + 2 for spec in task.specs.values())
    return 4 * width * task.horizon * episodes


def _play_worlds(
    task: World,
    teams: Mapping[T, Policies],
    episodes: Mapping[T, range],
    keys: Mapping[T, PRNGKeyArray],
    deployment: int,
) -> dict[T, Rollout]:
    """Roll out worlds written in JAX, many in parallel, all steps in one compiled program."""
    require_world(task, name_of(task))
    names, length, is_alone = list(teams), EPISODES_PER_BLOCK, len(teams) == 1
    policies, key = stacked_teams(list(teams.values()), [keys[name] for name in names])
    firsts = np.array([episodes[name].start for name in names], np.int32)
    played: dict[T, Any] = {}
    drawing: dict[T, dict[str, np.ndarray]] = {}
    for done in range(0, max(len(episodes[name]) for name in names), length):
        first = int(firsts[0]) + done if is_alone else firsts + done
        *block, drawings = jax.device_get(
            _play_block(task, policies, key, first, deployment, num_episodes=length, is_alone=is_alone)
        )
        for number, name in enumerate(names):
            num_episodes = len(episodes[name])
            if done >= num_episodes:
                continue
            its, points = (block, drawings) if is_alone else jax.tree.map(lambda x, i=number: x[i], (block, drawings))
            if not done:  # of the whole size at once: blocks beside what they are joined to would be twice of that
                played[name] = jax.tree.map(
                    lambda rows, n=num_episodes: np.empty((n, *rows.shape[1:]), rows.dtype), its
                )
                drawing[name] = {what: of_episodes[0] for what, of_episodes in points.items()}
            for rows, more in zip(jax.tree.leaves(played[name]), jax.tree.leaves(its), strict=True):
                rows[done : done + length] = more[: num_episodes - done]
    rollouts = {}
    for name in played.copy():
        transitions, rewards = played.pop(name)
        rollouts[name] = _rollout(task, transitions, rewards, drawing[name], episodes[name].start)
    return rollouts


def _rollout(
    task: World,
    transitions: dict[AgentID, Transition],
    rewards: np.ndarray,
    drawing: Mapping[str, np.ndarray],
    first_episode: int,
) -> Rollout:
    """What of `[episodes, steps]` was played before episodes were over."""
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


@functools.partial(jax.jit, static_argnames=("task", "num_episodes", "is_alone"))
def _play_block(
    task: World,
    policies: Any,
    key: Key[Array, "*teams"],
    first_episode: Array | np.ndarray | int,
    deployment: Array | int,
    *,
    num_episodes: int,
    is_alone: bool,
) -> tuple[
    dict[AgentID, Transition],
    Float[Array, "*teams episodes steps"],
    dict[str, Float[Array, "*teams episodes steps n 2"]],
]:
    """A block of episodes side by side, until the last of them is over; what nobody played is zero.

    Unless a team is alone, policies, keys and first episodes, and what comes back, have a leading axis of teams.
    """

    def start(key: PRNGKeyArray, number: Array) -> tuple[Any, PRNGKeyArray]:
        reset_key, play_key = jax.random.split(jax.random.fold_in(key, number))
        state = task.reset(key=reset_key)
        return task.enter(state, jnp.asarray(deployment)) if isinstance(task, Drifting) else state, play_key

    def step(policies: Any, state: Any, play_key: PRNGKeyArray, time: Array) -> tuple[Any, Any]:
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

    def start_all(key: PRNGKeyArray, first: Array) -> tuple[Any, Key[Array, " episodes"]]:
        return jax.vmap(start, in_axes=(None, 0))(key, first + jnp.arange(num_episodes))

    step_all = jax.vmap(step, in_axes=(None, 0, 0, None))
    if not is_alone:
        start_all, step_all = jax.vmap(start_all), jax.vmap(step_all, in_axes=(0, 0, 0, None))
    states, play_keys = start_all(key, jnp.asarray(first_episode))
    shapes = jax.eval_shape(step_all, policies, states, play_keys, jnp.int32(0))[1]

    def goes_on(carry: Any) -> Array:
        _, _, over, time = carry
        return (time < task.horizon) & ~jnp.all(over)

    def advance(carry: Any) -> Any:
        states, played, over, time = carry
        states, now = step_all(policies, states, play_keys, time)
        played = jax.tree.map(lambda rows, row: rows.at[time].set(row), played, now)
        return states, played, over | (now[0][task.agents[0]].discount == 0.0), time + 1

    nothing = jax.tree.map(lambda row: jnp.zeros((task.horizon, *row.shape), row.dtype), shapes)
    nobody = jnp.zeros(play_keys.shape, bool)
    played = jax.lax.while_loop(goes_on, advance, (states, nothing, nobody, jnp.int32(0)))[1]
    return jax.tree.map(lambda rows: jnp.moveaxis(rows, 0, play_keys.ndim), played)


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
    return collect_teams(task, {None: policies}, num_rows, keys={None: key}, deployment=deployment, progress=progress)[
        None
    ]


def collect_teams(
    task: Task,
    teams: Mapping[T, Policies],
    num_rows: int,
    *,
    keys: Mapping[T, PRNGKeyArray],
    deployment: int = 0,
    progress: Callable[[int], None] = lambda rows: None,
) -> dict[T, dict[AgentID, Dataset]]:
    """`collect` for several teams, see `rollout_teams`; `progress` is told of the team that has the fewest rows."""
    most = ROUNDS_OF_SEATS * task.num_environments if isinstance(task, Simulator) else EPISODES_PER_ROUND
    rounds: dict[T, list[Rollout]] = {name: [] for name in teams}
    episodes, rows = dict.fromkeys(teams, 0), dict.fromkeys(teams, 0)  # played, and logged by who logged the fewest
    while short := [name for name in teams if rows[name] < num_rows]:
        wanted = {name: range(number, number) for name, number in episodes.items()}
        for name in short:
            mean_length = rows[name] / episodes[name] if episodes[name] else task.horizon
            number = min(int(np.ceil((num_rows - rows[name]) / mean_length)), most)
            wanted[name] = range(episodes[name], episodes[name] + number)
        played = rollout_teams(task, teams, wanted, keys=keys, deployment=deployment)
        for name in short:
            rounds[name].append(played[name])
            episodes[name] = wanted[name].stop
            rows[name] = min(sum(len(its.ends[agent]) for its in rounds[name]) for agent in task.agents)
        progress(min(num_rows, *rows.values()))
    channels = channels_of(task)
    return {
        name: {
            agent: _dataset(task.specs[agent], channels[agent], agent, rounds[name], num_rows) for agent in task.agents
        }
        for name in teams
    }


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
    logs = collect_teams_in_turns(
        task, {None: policies}, num_rows, epsilon=epsilon, keys={None: key}, deployment=deployment
    )
    return logs[None]


def collect_teams_in_turns(
    task: Task,
    teams: Mapping[T, Policies],
    num_rows: int,
    *,
    epsilon: float,
    keys: Mapping[T, PRNGKeyArray],
    deployment: int = 0,
) -> dict[T, dict[AgentID, Dataset]]:
    """`collect_in_turns` for several teams, see `rollout_teams`."""
    logs: dict[T, dict[AgentID, Dataset]] = {name: {} for name in teams}
    for explorer in task.agents:
        exploring = {
            name: {  # all are wrapped, so that one compiled program serves every turn
                agent: Exploring(policy, jnp.float32(epsilon if agent == explorer else 0.0), task.specs[agent])
                for agent, policy in policies.items()
            }
            for name, policies in teams.items()
        }
        turn_keys = {name: jax.random.fold_in(key, zlib.crc32(explorer.encode())) for name, key in keys.items()}
        turn = collect_teams(task, exploring, num_rows, keys=turn_keys, deployment=deployment)
        for name in teams:
            logs[name][explorer] = turn[name][explorer]
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
    """How a team did.

    Attributes:
        returns: undiscounted, of each episode; the mean over agents where their rewards differ.
        agent_returns: mean return of each agent; of none where all share a reward.
        mean_abs_action: how far each agent's continuous actions went.
    """

    returns: Float[np.ndarray, " episodes"]
    agent_returns: dict[AgentID, float]
    mean_abs_action: dict[AgentID, float]


def evaluate(
    task: Task, policies: Policies, num_episodes: int, *, key: PRNGKeyArray, deployment: int = 0
) -> Evaluation:
    """Play episodes that are fixed by the key: the same ones for every team."""
    return evaluate_teams(task, {None: policies}, num_episodes, keys={None: key}, deployment=deployment)[None]


def evaluate_teams(
    task: Task,
    teams: Mapping[T, Policies],
    num_episodes: int,
    *,
    keys: Mapping[T, PRNGKeyArray],
    deployment: int = 0,
) -> dict[T, Evaluation]:
    """`evaluate` for several teams, see `rollout_teams`."""
    played = rollout_teams(task, teams, dict.fromkeys(teams, range(num_episodes)), keys=keys, deployment=deployment)
    return {
        name: Evaluation(
            returns=its.returns,
            agent_returns=_agent_returns(its),
            mean_abs_action={
                agent: float(np.abs(its.transitions[agent].action).mean())
                for agent in task.agents
                if not task.specs[agent].discrete
            },
        )
        for name, its in played.items()
    }


def _agent_returns(played: Rollout) -> dict[AgentID, float]:
    rewards = {agent: rows.reward for agent, rows in played.transitions.items()}
    first, *others = rewards.values()
    if all(np.array_equal(first, its) for its in others):
        return {}
    return {agent: float(its.sum(dtype=np.float64)) / len(played.returns) for agent, its in rewards.items()}


def trace(task: Task, policies: Policies, *, key: PRNGKeyArray, deployment: int = 0) -> dict[str, Any]:
    """The first of those episodes as points to draw: agents per step, landmarks, and its return."""
    return trace_teams(task, {None: policies}, keys={None: key}, deployment=deployment)[None]


def trace_teams(
    task: Task, teams: Mapping[T, Policies], *, keys: Mapping[T, PRNGKeyArray], deployment: int = 0
) -> dict[T, dict[str, Any]]:
    """`trace` for several teams, see `rollout_teams`."""
    played = rollout_teams(task, teams, dict.fromkeys(teams, range(1)), keys=keys, deployment=deployment)
    return {name: _traced(its) for name, its in played.items()}


def _traced(played: Rollout) -> dict[str, Any]:
    points = {name: np.round(values, 4) for name, values in played.drawing.items()}
    others = [points[name][-1] for name in ("landmarks", "goals", "others") if name in points]
    return {
        "agents": points["agents"].tolist() if "agents" in points else [],
        "landmarks": np.concatenate(others).tolist() if others else [],
        "return": float(played.returns[0]),
    }

"""Roll-outs in simulators: several environments are stepped in turn, their agents act in batches."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.envs import Environment, Simulator, name_of
from marline.envs.apart import require_apart, start_of_episode
from marline.envs.checked import Checked, require_task
from marline.errors import require
from marline.rollouts.game import Game, Outline, Seats, environment_of, make
from marline.rollouts.pool import Place, Played, places_of, pool_for
from marline.rollouts.rollout import Policies, Rollout, playing, stacked_teams
from marline.types import AgentID

T = TypeVar("T", bound=Hashable)


def play(
    task: Simulator,
    policies: Policies,
    num_episodes: int,
    *,
    key: PRNGKeyArray,
    first_episode: int = 0,
    watch: Callable[[Environment], None] | None = None,
) -> Rollout:
    """Play episodes `first_episode`, `first_episode` + 1, ...; what happens in each depends on its number and the key.

    Args:
        task: the simulator; its environments are kept for the next call, for many take long to make.
        policies: one policy per agent.
        num_episodes: how many are played.
        key: consumed by environments and policies.
        first_episode: number of the first.
        watch: is shown an environment after its reset and after every step; with several episodes, in turns.
    """
    numbers = range(first_episode, first_episode + num_episodes)
    return play_teams(task, {None: policies}, {None: numbers}, keys={None: key}, watch=watch)[None]


def play_teams(
    task: Simulator,
    teams: Mapping[T, Policies],
    episodes: Mapping[T, range],
    *,
    keys: Mapping[T, PRNGKeyArray],
    watch: Callable[[Environment], None] | None = None,
) -> dict[T, Rollout]:
    """`play` for several teams: their environments are stepped in turn, and one call per step tells what all do.

    Args:
        task: see `play`; every team has as many environments as one alone has.
        teams: by name, and of each its policies.
        episodes: which each of them plays; who plays none is not told of.
        keys: of each, see `play`.
        watch: see `play`.
    """
    names = list(teams)
    num_seats = [min(task.num_environments, len(episodes[name])) for name in names]
    words = [np.asarray(jax.random.key_data(keys[name])).ravel().tolist() for name in names]
    batch = _Batch(task, [teams[name] for name in names], [keys[name] for name in names])
    numbers = [episodes[name] for name in names]
    pool = pool_for(task) if watch is None else None
    if pool is None:
        finished = _play_here(task, num_seats, words, numbers, batch, watch)
    else:
        require_task(task, name_of(task))
        finished = pool.play(task, num_seats, words, numbers, batch.act, batch.outline())
    return {
        name: _rollout(task, [its[number] for number in episodes[name]])
        for name, its in zip(names, finished, strict=True)
        if episodes[name]
    }


def _play_here(
    task: Simulator,
    num_seats: Sequence[int],
    words: Sequence[list[int]],
    episodes: Sequence[range],
    batch: _Batch,
    watch: Callable[[Environment], None] | None,
) -> list[dict[int, Game]]:
    """The episodes of several teams by number, all environments stepped in turn."""
    places = places_of(num_seats)
    environments = {place: environment_of(task, number) for number, place in enumerate(places)}
    outline = Seats.outline(task.specs, len(num_seats), task.num_environments)
    arrays = {name: np.full(shape, name.startswith("mask "), kind) for name, (kind, shape) in outline.items()}
    seats = Seats.on(arrays, task.specs)
    waiting = [iter(its) for its in episodes]
    running: dict[Place, Game] = {}  # by place, where an environment is
    finished: list[dict[int, Game]] = [{} for _ in num_seats]
    while any(len(its) < len(of_team) for its, of_team in zip(finished, episodes, strict=True)):
        for place in places:
            number = None if place in running else next(waiting[place[0]], None)
            if number is not None:
                running[place] = Game(task, environments[place], number, words[place[0]], watch)
        for (team, seat), game in running.items():
            seats.see(team, seat, game)
        acted = batch.act(seats)
        actions = {
            (team, seat): {agent: acted[agent][team, seat] for agent in game.present}
            for (team, seat), game in running.items()
        }
        for place, game in running.items():
            game.begin(actions[place])
        for (team, seat), game in list(running.items()):
            game.step(actions[team, seat])
            if not game.present:
                game.close()
                finished[team][game.number] = running.pop((team, seat))
    return finished


def _rollout(task: Simulator, games: Sequence[Game | Played]) -> Rollout:
    transitions, ends = {}, {}
    for agent in task.agents:
        parts = [game.transitions[agent] for game in games if agent in game.transitions]
        require(len(parts) > 0, f"agent {agent!r} took no step in {len(games)} episodes; is it in the environment?")
        transitions[agent] = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
        ends[agent] = np.zeros(len(transitions[agent].reward), bool)
        ends[agent][np.cumsum([len(part.reward) for part in parts]) - 1] = True
    return Rollout(transitions, ends, np.array([game.total for game in games]), {})


def try_out(task: Simulator) -> None:
    """Make what `play` would step side by side, two at most, and begin an episode in it; nothing is kept.

    Raises:
        ConfigError: what is missing, or whatever is wrong with what comes.
    """
    environments: list[Checked] = []
    try:
        environments.append(make(task))  # which looks at the task too
        if task.num_environments > 1:
            environments.append(make(task))
            require_apart(environments[1], environments[:1], task, name_of(task))
        start_of_episode(environments[0], None, task)
    finally:
        for environment in environments:
            environment.close()


class _Batch:
    """The policies of several teams, which tell for all seats in one call what their agents do; not for empty ones.

    Calling a compiled program costs more than what small policies compute in it, by how many arrays it is given:
    so there are few of them.
    """

    def __init__(self, task: Simulator, teams: Sequence[Policies], keys: Sequence[PRNGKeyArray]) -> None:
        self._task, self._num_teams = task, len(teams)
        self._sizes = tuple((agent, spec.observation_size) for agent, spec in task.specs.items())
        # taken apart once: of Equinox's modules, every call would spend as long on that as on acting
        self._is_alone = len(teams) == 1
        policies, self._key = stacked_teams(teams, keys)
        self._leaves, self._structure = jax.tree.flatten(policies)

    def act(self, seats: Seats) -> dict[AgentID, np.ndarray]:
        """Actions `[teams, seats, ...]` of every agent."""
        actions = self._call(seats, _act if self._is_alone else _act_of_teams)
        # half the time of device_get
        return {
            agent: np.asarray(action)[None] if self._is_alone else np.asarray(action)
            for agent, action in actions.items()
        }

    def outline(self) -> Outline:
        """Type and shape of what `act` gives, by agent."""
        outline = Seats.outline(self._task.specs, self._num_teams, self._task.num_environments)
        seats = Seats.on({name: np.empty(shape, kind) for name, (kind, shape) in outline.items()}, self._task.specs)
        actions = self._call(seats, (_act if self._is_alone else _act_of_teams).eval_shape)
        first = (1,) if self._is_alone else ()
        return {agent: (its.dtype, (*first, *its.shape)) for agent, its in actions.items()}

    def _call(self, seats: Seats, act: Callable[..., Any]) -> Any:
        observations, masks, moments = jax.tree.map(lambda x: x[0], tuple(seats)) if self._is_alone else seats
        return act(self._leaves, observations, masks, self._key, moments, structure=self._structure, sizes=self._sizes)


def _acts(
    leaves: list[Any],
    observations: Float[Array, "seats total"],
    masks: Mapping[AgentID, Array],
    key: PRNGKeyArray,
    moments: Int[Array, "2 seats"],
    *,
    structure: Any,
    sizes: tuple[tuple[AgentID, int], ...],
) -> dict[AgentID, Array]:
    """Actions `[seats, ...]` of every agent; the streams are those of a world written in JAX."""
    policies = jax.tree.unflatten(structure, leaves)
    episodes, times = moments

    def act(agent: AgentID, observation: Array, mask: Array | None, episode: Array, time: Array) -> Array:
        _, play_key = jax.random.split(jax.random.fold_in(key, episode))
        agent_key = jax.random.fold_in(play_key, zlib.crc32(agent.encode()))
        return playing(policies[agent], play_key)(
            observation, key=jax.random.fold_in(agent_key, time), action_mask=mask
        )

    actions, start = {}, 0
    for agent, size in sizes:
        seen = observations[:, start : start + size]
        actions[agent] = jax.vmap(functools.partial(act, agent))(seen, masks.get(agent), episodes, times)
        start += size
    return actions


@functools.partial(jax.jit, static_argnames=("structure", "sizes"))
def _act(*seen: Any, structure: Any, sizes: tuple[tuple[AgentID, int], ...]) -> dict[AgentID, Array]:
    return _acts(*seen, structure=structure, sizes=sizes)


@functools.partial(jax.jit, static_argnames=("structure", "sizes"))
def _act_of_teams(*seen: Any, structure: Any, sizes: tuple[tuple[AgentID, int], ...]) -> dict[AgentID, Array]:
    """The same for several teams: whatever is seen has a leading axis of them."""
    return jax.vmap(functools.partial(_acts, structure=structure, sizes=sizes))(*seen)

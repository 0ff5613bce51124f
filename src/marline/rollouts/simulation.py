"""Roll-outs in simulators: several environments are stepped in turn, their agents act in batches."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from marline.envs import Actions, Environment, Simulator, name_of
from marline.envs.apart import require_apart, start_of_episode
from marline.envs.checked import Checked, require_task
from marline.errors import require
from marline.inputs.users_code import users_code
from marline.rollouts.rollout import Policies, Rollout, playing, stacked_teams
from marline.types import AgentID, Spec, Transition

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
        episodes: which each of them plays.
        keys: of each, see `play`.
        watch: see `play`.
    """
    names = list(teams)
    tables = {name: min(task.num_environments, len(episodes[name])) for name in names}
    places = [(team, seat) for seat in range(task.num_environments) for team in names if seat < tables[team]]
    environments = {place: _environment(task, number) for number, place in enumerate(places)}
    words = {name: np.asarray(jax.random.key_data(keys[name])).ravel().tolist() for name in names}
    batch = _Batch(task, [teams[name] for name in names], [keys[name] for name in names])
    waiting = {name: iter(episodes[name]) for name in names}
    running: dict[tuple[T, int], _Game] = {}  # by place, where an environment is
    finished: dict[T, dict[int, _Game]] = {name: {} for name in names}
    while any(len(finished[name]) < len(episodes[name]) for name in names):
        for place in places:
            number = None if place in running else next(waiting[place[0]], None)
            if number is not None:
                running[place] = _Game(task, environments[place], number, words[place[0]], watch)
        for (team, seat), game in running.items():
            batch.see(names.index(team), seat, game)
        chosen = batch.act()
        actions = {
            (team, seat): {agent: chosen[agent][names.index(team), seat] for agent in game.present}
            for (team, seat), game in running.items()
        }
        for place, game in running.items():
            game.begin(actions[place])
        for (team, seat), game in list(running.items()):
            game.step(actions[team, seat])
            if not game.present:
                game.close()
                finished[team][game.number] = running.pop((team, seat))
    return {name: _rollout(task, [finished[name][number] for number in episodes[name]]) for name in names}


def _rollout(task: Simulator, games: Sequence[_Game]) -> Rollout:
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
        environments.append(_make(task))  # which looks at the task too
        if task.num_environments > 1:
            environments.append(_make(task))
            require_apart(environments[1], environments[:1], task, name_of(task))
        start_of_episode(environments[0], None, task)
    finally:
        for environment in environments:
            environment.close()


class _Game:
    """One episode: while it runs, what happened step by step; afterwards, the rows of each agent."""

    def __init__(
        self,
        task: Simulator,
        environment: Checked,
        number: int,
        entropy: list[int],
        watch: Callable[[Environment], None] | None,
    ) -> None:
        self.number, self.time = number, 0
        self._specs, self._horizon, self._environment, self._watch = task.specs, task.horizon, environment, watch
        seed = np.random.SeedSequence([*entropy, number]).generate_state(1)
        self.now = environment.reset(seed=int(seed[0]), episode=number)
        self.present = environment.present  # nobody once it is over
        self._steps = [self.now]
        self._actions: list[Actions] = []
        self._lengths = dict.fromkeys(self.present, 0)
        if watch is not None:
            watch(environment.environment)

    def begin(self, actions: Actions) -> None:
        self._environment.begin(actions)

    def step(self, actions: Actions) -> None:
        self.now = self._environment.step(actions)
        self.time += 1
        self._steps.append(self.now)
        self._actions.append(actions)
        if self._watch is not None:
            self._watch(self._environment.environment)
        stays = self._environment.present if self.time < self._horizon else ()
        if len(stays) < len(self.present):
            self._lengths |= {agent: self.time for agent in self.present if agent not in stays}
            self.present = stays

    def close(self) -> None:
        """Put what happened into arrays, which take far less memory."""
        observations = np.concatenate([step.observations for step in self._steps])  # flat, for NumPy is slow at lists
        observations = observations.reshape(len(self._steps), -1)
        self.transitions, stop = {}, 0
        for agent, spec in self._specs.items():
            start, stop = stop, stop + spec.observation_size
            if agent in self._lengths:
                length = self._lengths[agent]
                self.transitions[agent] = self._rows(agent, observations[: length + 1, start:stop], spec)
        rewards = [[step.rewards[agent] for step in self._steps[1 : n + 1]] for agent, n in self._lengths.items()]
        self.total = float(np.mean([sum(earned) for earned in rewards]))
        self._steps, self._actions = [], []

    def _rows(self, agent: AgentID, observations: np.ndarray, spec: Spec) -> Transition:
        length = len(observations) - 1
        steps = self._steps[: length + 1]
        discount = np.ones(length, np.float32)
        discount[-1] = agent not in steps[-1].terminated
        masks = None
        if spec.discrete:
            everything = np.ones(spec.action_size, bool)
            masks = np.array([step.action_masks.get(agent, everything) for step in steps])
        leaves: dict[str, Any] = {
            "observation": observations[:-1],
            "action": np.array([taken[agent] for taken in self._actions[:length]]),
            "reward": np.array([step.rewards[agent] for step in steps[1:]], np.float32),
            "discount": discount,
            "next_observation": observations[1:],
            "action_mask": None if masks is None else masks[:-1],
            "next_action_mask": None if masks is None else masks[1:],
        }
        return Transition(**leaves)


class _Batch:
    """What the agents in all seats of all teams see; empty seats show what was last seen there, and nobody acts on it.

    Calling a compiled program costs more than what small policies compute in it, by how many arrays it is given:
    so there are few of them.
    """

    def __init__(self, task: Simulator, teams: Sequence[Policies], keys: Sequence[PRNGKeyArray]) -> None:
        shape, specs = (len(teams), task.num_environments), task.specs
        total = sum(spec.observation_size for spec in specs.values())
        self._observations = np.zeros((*shape, total), np.float32)  # of all agents side by side
        self._masks = {
            agent: np.ones((*shape, spec.action_size), bool) for agent, spec in specs.items() if spec.discrete
        }
        self._moments = np.zeros((len(teams), 2, task.num_environments), np.int32)  # episodes, and steps played of them
        self._sizes = tuple((agent, spec.observation_size) for agent, spec in specs.items())
        # taken apart once: of Equinox's modules, every call would spend as long on that as on acting
        self._is_alone = len(teams) == 1
        policies, self._key = stacked_teams(teams, keys)
        self._leaves, self._structure = jax.tree.flatten(policies)

    def see(self, team: int, seat: int, game: _Game) -> None:
        self._moments[team, :, seat] = game.number, game.time
        self._observations[team, seat] = game.now.observations
        for agent, masks in self._masks.items():
            masks[team, seat] = game.now.action_masks.get(agent, True)

    def act(self) -> dict[AgentID, np.ndarray]:
        """Actions `[teams, seats, ...]` of every agent."""
        act = _act if self._is_alone else _act_of_teams
        seen = self._observations, self._masks, self._moments
        observations, masks, moments = jax.tree.map(lambda x: x[0], seen) if self._is_alone else seen
        actions = act(
            self._leaves, observations, masks, self._key, moments, structure=self._structure, sizes=self._sizes
        )
        # half the time of device_get
        return {
            agent: np.asarray(action)[None] if self._is_alone else np.asarray(action)
            for agent, action in actions.items()
        }


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


@functools.cache
def _environment(task: Simulator, seat: int) -> Checked:
    """The environment of a seat, kept for the next call."""
    environment = _make(task)
    others = [_environment(task, other) for other in range(seat)]
    require_apart(environment, others, task, name_of(task))
    return environment


def _make(task: Simulator) -> Checked:
    require_task(task, name_of(task))
    with users_code(f"task {name_of(task)}: make()"):
        return Checked(task.make(), name_of(task), task.specs)

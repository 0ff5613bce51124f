"""Two walkers on a ring, who must not bump into each other (`Pass`), or must meet (`Meet`)."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from marline.envs.finite import FiniteModel
from marline.envs.ring import NUM_MOVES, STAY, law_of_moves, moved, on_circle, place_of, short_way
from marline.envs.scripted import NOISE, Choosing
from marline.errors import require, require_shares
from marline.inputs.arguments import checked
from marline.types import ActionMask, AgentID, Policy, Spec

AGENTS = ("agent_0", "agent_1")


class State(NamedTuple):
    """Where both are."""

    places: Int[Array, " 2"]


@dataclasses.dataclass(frozen=True)
@checked
class _TwoOnRing(abc.ABC):
    """Both step back, stay or step on at the same time, and slip now and then; the reward hangs on where they get.

    Observation, 4 numbers: the own place, then the other's, as points of the unit circle.

    Attributes:
        num_places: of the ring.
        slip: how often a step is any of the three instead.
        noise: how often members of past teams act at random.
    """

    num_places: int = 7
    horizon: int = 20
    slip: float = 0.1
    noise: float = NOISE

    def __post_init__(self) -> None:
        require_shares(self, "slip", "noise")
        require(self.num_places >= 2, f"num_places is {self.num_places}, but must be at least 2")

    @property
    def agents(self) -> tuple[AgentID, ...]:
        return AGENTS

    @property
    def specs(self) -> Mapping[AgentID, Spec]:
        return dict.fromkeys(AGENTS, Spec(4, NUM_MOVES, discrete=True))

    @abc.abstractmethod
    def rewards(self) -> Float[np.ndarray, "places places"]:
        """Of a step by the places that agent_0 and agent_1 reach."""

    def reset(self, *, key: PRNGKeyArray) -> State:
        """Both anywhere, at one place too."""
        return State(jax.random.randint(key, (2,), 0, self.num_places, jnp.int32))

    def step(
        self, state: State, actions: Mapping[AgentID, Array], *, key: PRNGKeyArray
    ) -> tuple[State, Float[Array, ""], Bool[Array, ""]]:
        """Step, or slip, and be paid for the places reached; never terminates."""
        places = jnp.stack(
            [
                moved(state.places[i], actions[agent], self.num_places, self.slip, key=jax.random.fold_in(key, i))
                for i, agent in enumerate(AGENTS)
            ]
        )
        reward = jnp.asarray(self.rewards(), jnp.float32)[places[0], places[1]]
        return State(places), reward, jnp.bool_(False)

    def observe(self, state: State) -> Mapping[AgentID, Float[Array, " obs"]]:
        first, second = (on_circle(state.places[i], self.num_places) for i in range(2))
        return {AGENTS[0]: jnp.concatenate([first, second]), AGENTS[1]: jnp.concatenate([second, first])}

    def action_masks(self, state: State) -> Mapping[AgentID, ActionMask]:
        return dict.fromkeys(AGENTS, jnp.ones(NUM_MOVES, bool))

    def _drawn(self, state: State, what: str, places: tuple[int, ...]) -> Mapping[str, Float[Array, "n 2"]]:
        """Agents on the ring, the second a little inside, over the places that matter."""
        points = jax.vmap(lambda place: on_circle(place, self.num_places))
        agents = jnp.array([[0.85], [0.7]]) * points(state.places)
        return {"agents": agents, what: 0.8 * points(jnp.array(places))}

    def _member(self, rule: Callable[[Array], Array]) -> Policy:
        """Of a past team: a rule from the own place to a move, and some noise."""
        return Choosing(lambda observation: rule(place_of(observation[:2], self.num_places)), NUM_MOVES, self.noise)

    def model(self) -> FiniteModel:
        """State x * num_places + y, for agent_0 at x and agent_1 at y."""
        num = self.num_places**2
        law = law_of_moves(self.num_places, self.slip)
        joint = np.einsum("xap,ybq->xyabpq", law, law)
        reward = np.einsum("xyabpq,pq->xyab", joint, self.rewards())
        shape = (num, NUM_MOVES, NUM_MOVES)
        return FiniteModel(np.full(num, 1 / num), joint.reshape(*shape, num), reward.reshape(shape), self.horizon)

    def states_of(self, observations: Float[np.ndarray, "n obs"], agent: int) -> Int[np.ndarray, " n"]:
        own, other = (np.asarray(place_of(jnp.asarray(seen), self.num_places)) for seen in np.split(observations, 2, 1))
        first, second = (own, other) if agent == 0 else (other, own)
        return first * self.num_places + second

    def observations_of(self, agent: int) -> Float[np.ndarray, "S obs"]:
        first, second = jnp.divmod(jnp.arange(self.num_places**2), self.num_places)
        own, other = (first, second) if agent == 0 else (second, first)
        point = jax.vmap(lambda place: on_circle(place, self.num_places))
        return np.asarray(jnp.concatenate([point(own), point(other)], axis=1))


@dataclasses.dataclass(frozen=True)
@checked
class Pass(_TwoOnRing):
    """Each has a place of its own to be at, which pays 1 a step, and being at one place costs 2; see `_TwoOnRing`.

    Past teams agree on which way around they go, the one or the other: then nobody comes towards anybody. Mirrored,
    and with agents exchanged, the one convention is the other, so both earn the same.
    """

    collision: float = 2.0

    @property
    def description(self) -> str:
        return "two agents pass each other on a ring on their way to places of their own (ours)"

    @property
    def goals(self) -> tuple[int, int]:
        """Of agent_0 and of agent_1."""
        return 0, self.num_places // 2

    def rewards(self) -> Float[np.ndarray, "places places"]:
        place = np.arange(self.num_places)
        first, second = ((place == goal).astype(np.float64) for goal in self.goals)
        return first[:, None] + second[None, :] - self.collision * np.eye(self.num_places)

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        return self._drawn(state, "goals", self.goals)

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """Everyone goes on, or everyone goes back, until it is there."""
        teams = {}
        for name, move in (("on", STAY + 1), ("back", STAY - 1)):
            rules = [lambda place, goal=goal, move=move: jnp.where(place == goal, STAY, move) for goal in self.goals]
            teams[name] = {agent: self._member(rule) for agent, rule in zip(AGENTS, rules, strict=True)}
        return teams


@dataclasses.dataclass(frozen=True)
@checked
class Meet(_TwoOnRing):
    """Both are paid 1 for a step that ends with both at one of the meeting points, three unless told; see `_TwoOnRing`.

    Each past team has a meeting point of its own. They lie evenly around the ring, so all teams earn the same.
    """

    num_places: int = 9
    num_points: int = 3

    @property
    def description(self) -> str:
        return f"two agents on a ring must be at the same of {self.num_points} meeting points (ours)"

    @property
    def points(self) -> tuple[int, ...]:
        """The meeting points."""
        return tuple(range(0, self.num_places, self.num_places // self.num_points))[: self.num_points]

    def rewards(self) -> Float[np.ndarray, "places places"]:
        return np.diag(np.isin(np.arange(self.num_places), self.points).astype(np.float64))

    def drawing(self, state: State) -> Mapping[str, Float[Array, "n 2"]]:
        return self._drawn(state, "landmarks", self.points)

    def conventions(self) -> Mapping[str, Mapping[AgentID, Policy]]:
        """Everyone goes to the same meeting point, by the short way."""
        teams = {}
        for point in self.points:
            member = self._member(lambda place, point=point: short_way(place, point, self.num_places))
            teams[f"point-{point}"] = dict.fromkeys(AGENTS, member)
        return teams

"""Worlds of two agents that are small enough to be solved: their laws as arrays, and what is best in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


class FiniteModel(NamedTuple):
    """The law of a world with S states, in which the first agent has A choices and the second B.

    Attributes:
        start: probability of each state at the start of an episode.
        transition: probability of the next state; where a step ends the episode for good, of none: rows sum to 0.
        reward: expected reward of a step.
        horizon: steps of an episode.
    """

    start: Float[np.ndarray, " S"]
    transition: Float[np.ndarray, "S A B S"]
    reward: Float[np.ndarray, "S A B"]
    horizon: int


@runtime_checkable
class Finite(Protocol):
    """A world that is a `FiniteModel`, in which every agent sees the whole state."""

    def model(self) -> FiniteModel: ...

    def states_of(self, observations: Float[np.ndarray, "n obs"], agent: int) -> Int[np.ndarray, " n"]:
        """Number of the state in which the first (0) or second (1) agent sees each observation."""
        ...

    def observations_of(self, agent: int) -> Float[np.ndarray, "S obs"]:
        """What an agent sees in each state; the inverse of `states_of`."""
        ...


def best_response(
    model: FiniteModel, partner: Float[np.ndarray, "S partner_choices"], agent: int = 0
) -> tuple[float, Int[np.ndarray, "horizon S"]]:
    """Mean undiscounted return of the best that one agent can do beside a known partner, and its choices by time.

    Args:
        model: the world.
        partner: probability of each of the partner's choices in each state.
        agent: 0 if the first agent responds, 1 if the second.
    """
    transition, reward = _alone(model, partner, agent)
    values, choices = np.zeros(len(model.start)), []
    for _ in range(model.horizon):
        returns = reward + transition @ values
        choices.append(returns.argmax(axis=1))
        values = returns.max(axis=1)
    return float(model.start @ values), np.array(choices[::-1])


def team_return(model: FiniteModel, first: Float[np.ndarray, "S A"], second: Float[np.ndarray, "S B"]) -> float:
    """Mean undiscounted return of two policies, given by the probability of each choice in each state."""
    transition, reward = _alone(model, second, 0)
    values = np.zeros(len(model.start))
    for _ in range(model.horizon):
        values = (first * (reward + transition @ values)).sum(axis=1)
    return float(model.start @ values)


def occupancy(
    model: FiniteModel, first: Float[np.ndarray, "S A"], second: Float[np.ndarray, "S B"]
) -> Float[np.ndarray, " S"]:
    """How many steps of an episode two policies take in each state, on average."""
    transition = np.einsum("sabt,sa,sb->st", model.transition, first, second)
    now, total = model.start, np.zeros(len(model.start))
    for _ in range(model.horizon):
        total = total + now
        now = now @ transition
    return total


def law_of_partner(
    model: FiniteModel,
    teams: Sequence[tuple[Float[np.ndarray, "S A"], Float[np.ndarray, "S B"]]],
    agent: int = 0,
) -> Float[np.ndarray, "S partner_choices"]:
    """Probability of each choice of an agent's partner in logs of several teams, all as many episodes.

    A team counts in a state as often as it is there; where none ever is, all count the same.
    """
    visits = np.array([occupancy(model, *team) for team in teams])
    visits = np.where(visits.sum(axis=0) > 0, visits, 1.0)
    partners = np.array([team[1 - agent] for team in teams])
    return np.einsum("js,jsb->sb", visits, partners) / visits.sum(axis=0)[:, None]


def true_ratio(
    today: Float[np.ndarray, "S choices"],
    logs: Float[np.ndarray, "S choices"],
    states: Int[np.ndarray, " n"],
    choices: Int[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """P_today(b | s) / P_logs(b | s) of what a partner really did: the true weight of each logged row.

    Args:
        today: probability of each of the partner's choices in each state.
        logs: the same in the logs, where everything that is logged has some.
        states: of the rows.
        choices: of the partner; from the same rows of its own log.
    """
    return today[states, choices] / logs[states, choices]


def _alone(model: FiniteModel, partner: np.ndarray, agent: int) -> tuple[np.ndarray, np.ndarray]:
    """The world as one agent meets it: `[S, choices, S]` and `[S, choices]`."""
    if agent == 0:
        return np.einsum("sabt,sb->sat", model.transition, partner), np.einsum("sab,sb->sa", model.reward, partner)
    return np.einsum("sabt,sa->sbt", model.transition, partner), np.einsum("sab,sa->sb", model.reward, partner)

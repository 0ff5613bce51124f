"""What playing a task gives, whichever kind of task it is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, PRNGKeyArray
from numpy import ndarray

from marline.policy import in_episode
from marline.types import AgentID, Policy, Transition

Policies = Mapping[AgentID, Policy]


TEAM = zlib.crc32(b"team")  # sets what a team has in common in an episode apart from the streams of its agents


def playing(policy: Policy, play_key: PRNGKeyArray) -> Policy:
    """What acts in an episode, of whose streams `play_key` is the root."""
    return in_episode(policy, key=jax.random.fold_in(play_key, TEAM))


class Rollout(NamedTuple):
    """Whole episodes one after another, in NumPy.

    Attributes:
        transitions: for each agent its rows, those in which it was there.
        ends: for each agent whether a row is its last one of an episode.
        returns: undiscounted, of each episode; the mean over agents where their rewards differ.
        drawing: points of the plane after each step of the first episode, where the task can draw itself.
    """

    transitions: dict[AgentID, Transition]
    ends: dict[AgentID, Bool[ndarray, " rows"]]
    returns: Float[ndarray, " episodes"]
    drawing: Mapping[str, Float[ndarray, "steps n 2"]]


def stacked_teams(teams: Sequence[Policies], keys: Sequence[PRNGKeyArray]) -> tuple[Any, Any]:
    """Policies of several teams and their keys, with a leading axis of teams; of one team, as they are."""
    if len(teams) == 1:
        return dict(teams[0]), keys[0]
    leaves = jax.device_get([jax.tree.leaves(dict(team)) for team in teams])
    columns = [np.stack(column) for column in zip(*leaves, strict=True)]
    words = np.stack(jax.device_get([jax.random.key_data(key) for key in keys]))
    policies = jax.tree.unflatten(jax.tree.structure(dict(teams[0])), jax.device_put(columns))
    return policies, jax.random.wrap_key_data(jnp.asarray(words), impl=jax.random.key_impl(keys[0]))

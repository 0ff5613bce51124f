"""What playing a task gives, whichever kind of task it is."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
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

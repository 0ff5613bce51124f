"""What playing a task gives, whichever kind of task it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Bool, Float
from numpy import ndarray

from marline.types import AgentID, Policy, Transition

Policies = Mapping[AgentID, Policy]


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

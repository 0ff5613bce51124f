"""The logs of an agent in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from marline.data.check import SATURATED
from marline.data.dataset import Dataset, common_reward_scope
from marline.types import AgentID


class Episodes(NamedTuple):
    """Lengths in steps and undiscounted returns; what follows the last end counts as an episode."""

    lengths: np.ndarray
    returns: np.ndarray


class Summary(NamedTuple):
    """What a row of a table says about an agent.

    Attributes:
        mean_length, mean_return: of its episodes.
        share_terminal: of all episodes, those that ended for good.
        share_saturated: of all continuous actions, those at a bound; NaN if they are choices.
    """

    num_rows: int
    num_episodes: int
    mean_length: float
    mean_return: float
    share_terminal: float
    share_saturated: float
    observation_size: int
    action_size: int
    discrete: bool


def episodes(dataset: Dataset) -> Episodes:
    """The episodes of at least one row."""
    ends = np.flatnonzero(dataset.terminals | dataset.timeouts)
    starts = np.concatenate([[0], ends + 1])
    starts = starts[starts < len(dataset)]
    lengths = np.diff(starts, append=len(dataset))
    return Episodes(lengths, np.add.reduceat(dataset.rewards.astype(np.float64), starts))


def returns_by_agent(logs: Mapping[AgentID, Dataset]) -> dict[AgentID, float]:
    """Mean return per episode of each agent; of none where all share a reward, as was said or equal rewards show."""
    scope, (first, *others) = common_reward_scope(logs), logs.values()
    is_shared = (
        all(np.array_equal(log.rewards, first.rewards) for log in others) if scope is None else scope == "shared"
    )
    return (
        {} if is_shared or not others else {agent: float(episodes(log).returns.mean()) for agent, log in logs.items()}
    )


def summarise(dataset: Dataset) -> Summary:
    """Counts and means of logs with at least one row."""
    lengths, returns = episodes(dataset)
    spec = dataset.spec
    return Summary(
        num_rows=len(dataset),
        num_episodes=len(lengths),
        mean_length=float(lengths.mean()),
        mean_return=float(returns.mean()),
        share_terminal=int(dataset.terminals.sum()) / len(lengths),
        share_saturated=np.nan if spec.discrete else float(np.mean(np.abs(dataset.actions) >= SATURATED)),
        observation_size=spec.observation_size,
        action_size=spec.action_size,
        discrete=spec.discrete,
    )

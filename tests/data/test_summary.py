"""The logs of an agent in numbers."""

import dataclasses

import numpy as np

from marline.data.dataset import from_arrays
from marline.data.summary import episodes, summarise

LOGS = from_arrays(
    "a",
    {
        "observations": np.zeros((6, 2), np.float32),
        "actions": np.array([[0.5], [1], [-1], [0], [0.9999], [0.2]], np.float32),
        "rewards": np.array([1, 2, 3, 4, 5, 6], np.float32),
        "terminals": np.array([0, 1, 0, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 1, 0, 0, 0], bool),
        "next_observations": np.zeros((6, 2), np.float32),
    },
)


def test_returns_add_up_and_what_follows_the_last_end_counts_as_an_episode() -> None:
    lengths, returns = episodes(LOGS)
    assert lengths.tolist() == [2, 1, 3]
    assert returns.tolist() == [3, 3, 15]
    ended = dataclasses.replace(LOGS, timeouts=np.array([0, 0, 1, 0, 0, 1], bool))
    assert episodes(ended).lengths.tolist() == [2, 1, 3]


def test_summary() -> None:
    found = summarise(LOGS)
    assert (found.num_rows, found.num_episodes, found.mean_length, found.mean_return) == (6, 3, 2.0, 7.0)
    assert (found.share_terminal, found.share_saturated) == (1 / 3, 0.5)

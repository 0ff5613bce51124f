"""Episodes ended where an agent's choice ends, by hand."""

from __future__ import annotations

import dataclasses

import numpy as np

from marline.data.dataset import Dataset
from marline.data.forced_tails import end_where_choice_ends
from marline.types import Spec

FREE, FORCED = [True, True, True], [True, False, False]


def episode(choices: str, rewards: list[float], *, terminal: bool) -> Dataset:
    """One row per letter: f when every action is allowed, x when one is; the last observation is like the last row."""
    num = len(choices)
    masks = np.array([FREE if choice == "f" else FORCED for choice in choices])
    last = np.arange(num) == num - 1
    return Dataset(
        spec=Spec(1, 3, discrete=True),
        observations=np.arange(num, dtype=np.float32)[:, None],
        actions=np.zeros(num, np.int64),
        rewards=np.array(rewards, np.float32),
        terminals=last & terminal,
        timeouts=last & (not terminal),
        next_observations=np.arange(1, num + 1, dtype=np.float32)[:, None],
        action_masks=masks,
        next_action_masks=np.concatenate([masks[1:], masks[-1:]]),
    )


def joined(*parts: Dataset) -> Dataset:
    columns = {name: np.concatenate([part.columns()[name] for part in parts]) for name in parts[0].columns()}
    return dataclasses.replace(parts[0], **columns)


def test_what_follows_the_last_choice_is_paid_at_once_and_dropped() -> None:
    logs = end_where_choice_ends(episode("ffxx", [1.0, 2.0, 3.0, 4.0], terminal=True), 0.5)
    np.testing.assert_array_equal(logs.observations[:, 0], [0.0, 1.0])
    np.testing.assert_array_equal(logs.rewards, [1.0, 2.0 + 0.5 * 3.0 + 0.25 * 4.0])
    np.testing.assert_array_equal(logs.terminals, [False, True])
    np.testing.assert_array_equal(logs.timeouts, [False, False])


def test_a_tail_that_a_time_limit_cut_is_no_end() -> None:
    logs = episode("fxx", [1.0, 1.0, 1.0], terminal=False)
    assert end_where_choice_ends(logs, 1.0) is logs  # its team could have earned more
    both = joined(episode("fxx", [1.0, 2.0, 4.0], terminal=True), logs)
    ended = end_where_choice_ends(both, 0.5)
    assert ended.rewards.tolist() == [3.0, 1.0, 1.0, 1.0]
    assert ended.terminals.tolist() == [True, False, False, False]
    assert ended.timeouts.tolist() == [False, False, False, True]


def test_a_choice_that_comes_back_is_no_tail() -> None:
    logs = episode("fxxf", [1.0, 2.0, 3.0, 4.0], terminal=True)
    assert end_where_choice_ends(logs, 0.5) is logs


def test_episodes_with_a_choice_to_the_end_or_none_at_all_stay() -> None:
    logs = joined(episode("ff", [1.0, 1.0], terminal=False), episode("xx", [1.0, 1.0], terminal=True))
    assert end_where_choice_ends(logs, 0.5) is logs


def test_each_episode_ends_by_itself_and_an_open_one_goes_on() -> None:
    first, second = episode("fxx", [0.0, 1.0, 0.0], terminal=True), episode("fx", [5.0, 1.0], terminal=False)
    second = dataclasses.replace(second, timeouts=np.zeros(2, bool))  # still going on
    logs = end_where_choice_ends(joined(first, episode("f", [7.0], terminal=True), second), 0.5)
    np.testing.assert_array_equal(logs.rewards, [0.5, 7.0, 5.0, 1.0])
    np.testing.assert_array_equal(logs.terminals, [True, True, False, False])
    assert len(logs.next_action_masks) == 4  # pyright: ignore[reportArgumentType]


def test_logs_without_masks_stay() -> None:
    logs = dataclasses.replace(episode("fx", [1.0, 1.0], terminal=True), action_masks=None, next_action_masks=None)
    assert end_where_choice_ends(logs, 0.5) is logs
